// The normalization as functions of tensors: everything is checked here before an address is used.
//
// A call that does not fit, in whatever way, is answered with false, and kernels/cpu/normalize.py
// then copies what can be made to fit and says in words what cannot. None is the answer where a
// statistic has left the range of its dtype: the reference then takes the call.
#include <array>
#include <optional>

#include <nanobind/stl/optional.h>

#include "module.h"
#include "tensors.h"

namespace graphnorms {

namespace {

int64_t cells(const Norm& n, int over, int64_t of_columns) {
    return (over == kChannels ? n.rows : over == kNone ? 0 : n.segments) *
           (over == kNodes ? n.channels : of_columns);
}

// The names behind None in graphnorms.kernels.point, in the order of their enumerations.
constexpr std::array kActivations{"relu", "leaky_relu", "gelu", "silu"};
constexpr std::array kFunctions{"tanh", "erf"};

// The number of a name, 0 for None, or -1 if there is none of that name.
template <size_t N> int number_of(nb::handle name, const std::array<const char*, N>& names) {
    if (name.is_none()) return 0;
    for (size_t i = 0; PyUnicode_Check(name.ptr()) && i < N; ++i)
        if (PyUnicode_CompareWithASCIIString(name.ptr(), names[i]) == 0) return int(i) + 1;
    return -1;
}

int domain(nb::handle over) { return over.is_none() ? kNone : nb::cast<int>(over); }

// A graphnorms.kernels.point.Call: a tuple of these items. It and its parts outlive the views.
struct Call {
    explicit Call(const nb::tuple& of)
        : segments(item(of, 0)), seed(item(of, 5)), ptr_(segments.attr("ptr")), order_(segments.attr("order")),
          ptr(ptr_), order(order_), point(nb::borrow<nb::tuple>(item(of, 1))), layout(item(of, 6)), eps(item(of, 2)),
          activation(item(of, 3)), dropout(item(of, 4)) {}
    nb::handle segments;
    View seed;
    nb::object ptr_, order_;
    View ptr, order;
    nb::tuple point;
    nb::handle layout, eps, activation, dropout;
};

// Fill in what forward and backward have in common, if it fits together.
bool fill(Norm& n, const View& x, const Parameters& parameters, const Call& call, int threads) {
    const bool known = x.dtype() >= 0 && x.dtype() < kDtypes;
    const auto& [mean_scale, weight, bias] = parameters;
    const View &ptr = call.ptr, &order = call.order, &seed = call.seed;
    if (!known || !x.has_whole_rows() || x.size(1) < 1 || !ptr.is_index() || ptr.size(0) < 1) return false;
    n.center = domain(item(call.point, 0));
    n.scale = domain(item(call.point, 1));
    n.groups = nb::cast<int64_t>(item(call.point, 3));
    n.function = number_of(item(call.point, 4), kFunctions);
    n.eps = nb::cast<double>(call.eps);
    n.activation = number_of(call.activation, kActivations);
    n.dropout = nb::cast<double>(call.dropout);
    if (n.function < 0 || n.activation < 0) return false;
    n.rows = x.size(0);
    n.channels = x.size(1);
    n.segments = ptr.size(0) - 1;
    n.threads = usable_threads(threads, n.rows * n.channels);
    if (n.groups < 1 || n.channels % n.groups) return false;
    n.centers = n.scales = n.groups;
    n.table = nullptr;
    if (!call.layout.is_none()) {
        const nb::tuple layout = nb::borrow<nb::tuple>(call.layout);
        const View table(item(layout, 0));
        n.centers = nb::cast<int64_t>(item(layout, 1));
        n.scales = nb::cast<int64_t>(item(layout, 2));
        if (!table.is_matrix(kInt64, 3, n.channels) || n.groups != 1 || n.centers < 1 || n.scales < 1) return false;
        n.table = static_cast<const int64_t*>(table.data());
    }
    if (!order.none() && !order.is_index(n.rows)) return false;
    if (!seed.none() && !(seed.dtype() == kInt64 && (seed.dims() == 0 || seed.is_index(1)))) return false;


    const int numbers = accumulation(x.dtype());
    const bool own = (!weight.none() && weight.dtype() >= 0 && weight.dims() == 2) ||
                     (!bias.none() && bias.dtype() >= 0 && bias.dims() == 2);
    n.affine_stride = own ? n.channels : 0;
    n.arguments = 0;
    if (n.function == kNoFunction) {
        if (!mean_scale.none() && !mean_scale.is_vector(numbers, n.channels)) return false;
    } else {
        if (n.function > kErf || n.center != kNone || n.scale != kNone) return false;
        if (!mean_scale.none()) {
            n.arguments = mean_scale.is_vector(numbers, 2) ? 2 : 1;
            if (!mean_scale.is_vector(numbers, n.arguments)) return false;
        }
    }
    for (const View* parameter : {&weight, &bias})
        if (!parameter->none() && !(own ? parameter->is_matrix(numbers, n.segments, n.channels)
                                        : parameter->is_vector(numbers, n.channels)))
            return false;
    n.ptr = static_cast<const int64_t*>(ptr.data());
    n.order = static_cast<const int64_t*>(order.data());
    n.seed = static_cast<const int64_t*>(seed.data());
    n.mean_scale = mean_scale.data();
    n.weight = weight.data();
    n.bias = bias.data();
    return true;
}

bool fill_forward(NormForward& p, const View& x, const View& residual, const Parameters& of, const Call& call,
                  int threads, const View& y) {
    if (!fill(p, x, of, call, threads) || !y.is_like(x) || !y.contiguous() ||
        (!residual.none() && !residual.is_like(x)))
        return false;
    p.x = x.data();
    p.x_stride = x.stride(0);
    p.residual = residual.data();
    p.residual_stride = residual.none() ? 0 : residual.stride(0);
    p.y = y.data();
    return true;
}

// One tensor holds the statistics: shift, then rstd, then the moment where it is asked for.
bool fill_statistics(Norm& n, const View& x, const View& statistics, bool with_moment) {
    const int numbers = accumulation(x.dtype());
    const int64_t bytes = numbers == kDouble ? 8 : 4, centers = cells(n, n.center, n.centers),
                  scales = cells(n, n.scale, n.scales);
    if (statistics.dtype() != numbers || statistics.dims() != 1 || !statistics.contiguous() ||
        statistics.size(0) < centers + scales * (with_moment ? 2 : 1))
        return false;
    char* first = static_cast<char*>(statistics.data());
    n.shift = first;
    n.rstd = first + centers * bytes;
    n.moment = with_moment && n.scale != kNone ? first + (centers + scales) * bytes : nullptr;
    return true;
}

// Whether the columns of each cell are one range, in the order of cells; columns of no cell, -1, may
// lie between.
bool are_ranges(const int64_t* cells, int64_t columns) {
    int64_t last = -1;
    for (int64_t c = 0; c < columns; ++c) {
        if (cells[c] < 0 || (c > 0 && cells[c] == cells[c - 1])) continue;
        if (cells[c] <= last) return false;
        last = cells[c];
    }
    return true;
}

void check_contents(const Norm& n) {
    check_offsets(n.ptr, n.segments, n.rows);
    if (n.order) check_ids("order", n.order, n.rows, n.rows);
    if (!n.table) return;
    const int64_t *center = n.table, *scale = center + n.channels, *divisors = scale + n.channels;
    bool fits = true;
    for (int64_t c = 0; c < n.channels; ++c)
        fits &= center[c] >= -1 && center[c] < n.centers && scale[c] >= 0 && scale[c] < n.scales && divisors[c] > 0;
    if (!fits) throw nb::value_error("layout has a cell or a divisor outside its range");
    if ((n.center == kChannels && !are_ranges(center, n.channels)) ||
        (n.scale == kChannels && !are_ranges(scale, n.channels)))
        throw nb::value_error("layout has a cell that is not a range of columns, or cells in another order; sort them");
}

template <class Call> Answer answer(Call& call, void (*kernel)(const Call&)) {
    std::atomic<bool> out_of_range = false;
    call.out_of_range = &out_of_range;
    kernel(call);
    return out_of_range ? Answer() : Answer(true);
}

}  // namespace

int64_t statistics_size(const View& x, const Parameters& of, const nb::tuple& call, bool with_moment) {
    Norm n;
    if (!fill(n, x, of, Call(call), 1)) return -1;
    return cells(n, n.center, n.centers) + cells(n, n.scale, n.scales) * (with_moment ? 2 : 1);
}

Answer normalize_forward(const View& x, const View& residual, const Parameters& of, const nb::tuple& call,
                         bool with_moment, int threads, const View& y, const View& statistics) {
    NormForward p;
    if (!fill_forward(p, x, residual, of, Call(call), threads, y) || !fill_statistics(p, x, statistics, with_moment))
        return false;
    nb::gil_scoped_release others_run;
    check_contents(p);
    return answer(p, current.forward[x.dtype()]);
}

bool normalize_by_averages(const View& x, const View& residual, const Parameters& of, const nb::tuple& call, const View& mean,
                           const View& var, int threads, const View& y) {
    NormByAverages p;
    if (!fill_forward(p, x, residual, of, Call(call), threads, y) || p.center != kNone || p.scale != kNone ||
        p.function != kNoFunction || p.order || p.segments != 1 || p.affine_stride)
        return false;
    for (const View* average : {&mean, &var})
        if (!average->is_vector(accumulation(x.dtype()), p.channels)) return false;
    p.mean = mean.data();
    p.var = var.data();
    nb::gil_scoped_release others_run;
    check_contents(p);
    if (p.ptr[1] != p.rows) return false;
    current.by_averages[x.dtype()](p);
    return true;
}

namespace {

Answer forward(nb::handle x, nb::handle residual, const nb::tuple& parameters, const nb::tuple& call,
               bool with_moment, int threads, nb::handle y, nb::handle statistics) {
    return normalize_forward(View(x), View(residual), Parameters(parameters), call, with_moment, threads, View(y),
                             View(statistics));
}

// Whether tensors, `None` among them, are shaped as the parameters and in the accumulation dtype.
bool are_gradients(const Norm& n, const View& x, const Parameters& of, const Parameters& grads) {
    const int numbers = accumulation(x.dtype());
    const int64_t shares = n.function == kNoFunction ? n.channels : n.arguments;
    if (!grads.mean_scale.none() && (of.mean_scale.none() || !grads.mean_scale.is_vector(numbers, shares)))
        return false;
    for (const auto& [parameter, grad] : {std::array{&of.weight, &grads.weight}, std::array{&of.bias, &grads.bias}})
        if (!grad->none() && (parameter->none() || !(n.affine_stride ? grad->is_matrix(numbers, n.segments, n.channels)
                                                                     : grad->is_vector(numbers, n.channels))))
            return false;
    return true;
}

// Fill in what both backwards have in common, if it fits together.
bool fill_backward(NormBackward& p, const View& x, const View& grad_y, const View& grad_x, const Parameters& of,
                   const Parameters& grads) {
    if (!grad_y.is_like(x) || (!grad_x.none() && !(grad_x.is_like(x) && grad_x.contiguous())) ||
        !are_gradients(p, x, of, grads))
        return false;
    p.x = x.data();
    p.x_stride = x.stride(0);
    p.grad_y = grad_y.data();
    p.grad_y_stride = grad_y.stride(0);
    p.grad_x = grad_x.data();
    p.grad_mean_scale = grads.mean_scale.data();
    p.grad_weight = grads.weight.data();
    p.grad_bias = grads.bias.data();
    return true;
}

}  // namespace

Answer normalize_backward(const View& grad_y, const View& x, const Parameters& of, const View& statistics,
                          const nb::tuple& call, int threads, const View& grad_x, const Parameters& grads) {
    NormBackward p;
    if (!fill(p, x, of, Call(call), threads) || !fill_statistics(p, x, statistics, false) ||
        !fill_backward(p, x, grad_y, grad_x, of, grads))
        return false;
    nb::gil_scoped_release others_run;
    check_contents(p);
    return answer(p, current.backward[x.dtype()]);
}

// Of x the first row is read, which the statistics are relative to.
bool update_running(const View& x, const View& statistics, const View& mean, const View& var, const View& batches,
                    int64_t rows, double momentum) {
    if (x.dtype() < 0 || x.dtype() >= kDtypes || !x.has_whole_rows() || x.size(0) < 1 || rows < 2) return false;
    const int numbers = accumulation(x.dtype());
    const int64_t channels = x.size(1), bytes = numbers == kDouble ? 8 : 4;
    if (!statistics.is_vector(numbers, 3 * channels) || !mean.is_vector(numbers, channels) ||
        !var.is_vector(numbers, channels) || batches.dtype() != kInt64 || batches.dims() != 0)
        return false;
    ++*batches.as<int64_t>();
    const char* shift = static_cast<const char*>(statistics.data());
    current.update_running[x.dtype()]({channels, rows, momentum, x.data(), shift, shift + 2 * channels * bytes,
                                       mean.data(), var.data()});
    return true;
}

namespace {

Answer backward(nb::handle grad_y, nb::handle x, const nb::tuple& parameters, nb::handle statistics,
                const nb::tuple& call, int threads, nb::handle grad_x, const nb::tuple& grads) {
    return normalize_backward(View(grad_y), View(x), Parameters(parameters), View(statistics), call, threads,
                              View(grad_x), Parameters(grads));
}

Answer double_backward(nb::handle of_grad_x_, const nb::tuple& of_grads_, nb::handle grad_y, nb::handle x_,
                       const nb::tuple& parameters_, nb::handle statistics, const nb::tuple& call, int threads,
                       nb::handle grad_grad_y_, nb::handle grad_x_, const nb::tuple& grads) {
    const View x(x_), grad_x(grad_x_), of_grad_x(of_grad_x_), grad_grad_y(grad_grad_y_);
    const Parameters parameters(parameters_), of_grads(of_grads_);
    NormDoubleBackward p;
    if (!fill(p, x, parameters, Call(call), threads) || !fill_statistics(p, x, View(statistics), false) ||
        !fill_backward(p, x, View(grad_y), grad_x, parameters, Parameters(grads)) || grad_x.none() ||
        !are_gradients(p, x, parameters, of_grads) || !of_grad_x.is_like(x) || !grad_grad_y.is_like(x) ||
        !grad_grad_y.contiguous())
        return false;
    p.of_grad_x = of_grad_x.data();
    p.of_grad_x_stride = of_grad_x.stride(0);
    p.of_grad_mean_scale = of_grads.mean_scale.data();
    p.of_grad_weight = of_grads.weight.data();
    p.of_grad_bias = of_grads.bias.data();
    p.grad_grad_y = grad_grad_y.data();
    nb::gil_scoped_release others_run;
    check_contents(p);
    return answer(p, current.double_backward[x.dtype()]);
}

bool by_averages(nb::handle x, nb::handle residual, const nb::tuple& parameters, const nb::tuple& call, nb::handle mean,
                 nb::handle var, int threads, nb::handle y) {
    return normalize_by_averages(View(x), View(residual), Parameters(parameters), call, View(mean), View(var), threads,
                                 View(y));
}

bool update(nb::handle x, nb::handle statistics, nb::handle mean, nb::handle var, nb::handle batches, int64_t rows,
            double momentum) {
    return update_running(View(x), View(statistics), View(mean), View(var), View(batches), rows, momentum);
}

}  // namespace

void bind_normalize(nb::module_& m) {
    m.def("normalize_forward", forward, nb::arg("x"), nb::arg("residual").none(), nb::arg("parameters"),
          nb::arg("call"), nb::arg("moment"), nb::arg("threads"), nb::arg("y"),
          nb::arg("statistics"));
    m.def("normalize_backward", backward, nb::arg("grad_y"), nb::arg("x"), nb::arg("parameters"),
          nb::arg("statistics"), nb::arg("call"), nb::arg("threads"),
          nb::arg("grad_x").none(), nb::arg("grads"));
    m.def("normalize_double_backward", double_backward, nb::arg("of_grad_x"), nb::arg("of_grads"),
          nb::arg("grad_y"), nb::arg("x"), nb::arg("parameters"), nb::arg("statistics"), nb::arg("call"),
          nb::arg("threads"), nb::arg("grad_grad_y"), nb::arg("grad_x"), nb::arg("grads"));
    m.def("normalize_by_averages", by_averages, nb::arg("x"), nb::arg("residual").none(), nb::arg("parameters"),
          nb::arg("call"), nb::arg("mean"), nb::arg("var"), nb::arg("threads"), nb::arg("y"));
    m.def("update_running", update, nb::arg("x"), nb::arg("statistics"), nb::arg("mean"),
          nb::arg("var"), nb::arg("batches"), nb::arg("rows"), nb::arg("momentum"));
}

}  // namespace graphnorms
