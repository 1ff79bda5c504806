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

struct Choices {
    int center, scale;
    int64_t groups;
    double eps;
    int activation;
    double dropout;
    int function;
    int threads;
};

int64_t cells(const Norm& n, int over) {
    return (over == kChannels ? n.rows : over == kNone ? 0 : n.segments) *
           (over == kNodes ? n.channels : n.groups);
}

// Fill in what forward and backward have in common, if it fits together.
bool fill(Norm& n, const Choices& choices, const View& x, const View& ptr, const View& order, const View& seed,
          const View& mean_scale, const View& weight, const View& bias) {
    const bool known = x.dtype() >= 0 && x.dtype() < kDtypes;
    if (!known || !x.has_whole_rows() || x.size(1) < 1 || !ptr.is_index() || ptr.size(0) < 1) return false;
    n.center = choices.center;
    n.scale = choices.scale;
    n.groups = choices.groups;
    n.eps = choices.eps;
    n.activation = choices.activation;
    n.dropout = choices.dropout;
    n.function = choices.function;
    n.rows = x.size(0);
    n.channels = x.size(1);
    n.segments = ptr.size(0) - 1;
    n.threads = usable_threads(choices.threads, n.rows * n.channels);
    if (n.groups < 1 || n.channels % n.groups) return false;
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

// One tensor holds the statistics: shift, then rstd, then the moment where it is asked for.
bool fill_statistics(Norm& n, const View& x, const View& statistics, bool with_moment) {
    const int numbers = accumulation(x.dtype());
    const int64_t bytes = numbers == kDouble ? 8 : 4, centers = cells(n, n.center), scales = cells(n, n.scale);
    if (statistics.dtype() != numbers || statistics.dims() != 1 || !statistics.contiguous() ||
        statistics.size(0) < centers + scales * (with_moment ? 2 : 1))
        return false;
    char* first = static_cast<char*>(statistics.data());
    n.shift = first;
    n.rstd = first + centers * bytes;
    n.moment = with_moment && n.scale != kNone ? first + (centers + scales) * bytes : nullptr;
    return true;
}

void check_positions(const Norm& n) {
    check_offsets(n.ptr, n.segments, n.rows);
    if (n.order) check_ids("order", n.order, n.rows, n.rows);
}

using Answer = std::optional<bool>;

template <class Call> Answer answer(Call& call, void (*kernel)(const Call&)) {
    std::atomic<bool> out_of_range = false;
    call.out_of_range = &out_of_range;
    kernel(call);
    return out_of_range ? Answer() : Answer(true);
}

Answer forward(nb::handle x_, nb::handle residual_, nb::handle ptr, nb::handle order, nb::handle seed,
             nb::handle mean_scale, nb::handle weight, nb::handle bias, int center, int scale, int64_t groups,
             double eps, int activation, double dropout, int function, bool with_moment, int threads, nb::handle y_,
             nb::handle statistics) {
    const View x(x_), residual(residual_), y(y_);
    NormForward p;
    if (!fill(p, {center, scale, groups, eps, activation, dropout, function, threads}, x, View(ptr), View(order),
              View(seed), View(mean_scale), View(weight), View(bias)) ||
        !fill_statistics(p, x, View(statistics), with_moment) || !y.is_like(x) || !y.contiguous() ||
        (!residual.none() && !residual.is_like(x)))
        return false;
    p.x = x.data();
    p.x_stride = x.stride(0);
    p.residual = residual.data();
    p.residual_stride = residual.none() ? 0 : residual.stride(0);
    p.y = y.data();
    nb::gil_scoped_release others_run;
    check_positions(p);
    return answer(p, current.forward[x.dtype()]);
}

// Whether tensors, `None` among them, are shaped as the parameters and in the accumulation dtype.
bool are_gradients(const Norm& n, const View& x, const View& mean_scale, const View& weight, const View& bias,
                   const View (&grads)[3]) {
    const int numbers = accumulation(x.dtype());
    const int64_t shares = n.function == kNoFunction ? n.channels : n.arguments;
    if (!grads[0].none() && (mean_scale.none() || !grads[0].is_vector(numbers, shares))) return false;
    for (const auto& [parameter, grad] : {std::array{&weight, &grads[1]}, std::array{&bias, &grads[2]}})
        if (!grad->none() && (parameter->none() || !(n.affine_stride ? grad->is_matrix(numbers, n.segments, n.channels)
                                                                     : grad->is_vector(numbers, n.channels))))
            return false;
    return true;
}

// Fill in what both backwards have in common, if it fits together.
bool fill_backward(NormBackward& p, const View& x, const View& grad_y, const View& grad_x, const View& mean_scale,
                   const View& weight, const View& bias, const View (&grads)[3]) {
    if (!grad_y.is_like(x) || (!grad_x.none() && !(grad_x.is_like(x) && grad_x.contiguous())) ||
        !are_gradients(p, x, mean_scale, weight, bias, grads))
        return false;
    p.x = x.data();
    p.x_stride = x.stride(0);
    p.grad_y = grad_y.data();
    p.grad_y_stride = grad_y.stride(0);
    p.grad_x = grad_x.data();
    p.grad_mean_scale = grads[0].data();
    p.grad_weight = grads[1].data();
    p.grad_bias = grads[2].data();
    return true;
}

Answer backward(nb::handle grad_y, nb::handle x_, nb::handle ptr, nb::handle order, nb::handle seed,
              nb::handle mean_scale_, nb::handle weight_, nb::handle bias_, nb::handle statistics, int center,
              int scale, int64_t groups, double eps, int activation, double dropout, int function, int threads,
              nb::handle grad_x, nb::handle grad_mean_scale, nb::handle grad_weight, nb::handle grad_bias) {
    const View x(x_), mean_scale(mean_scale_), weight(weight_), bias(bias_);
    const View grads[3] = {View(grad_mean_scale), View(grad_weight), View(grad_bias)};
    NormBackward p;
    if (!fill(p, {center, scale, groups, eps, activation, dropout, function, threads}, x, View(ptr), View(order),
              View(seed), mean_scale, weight, bias) ||
        !fill_statistics(p, x, View(statistics), false) ||
        !fill_backward(p, x, View(grad_y), View(grad_x), mean_scale, weight, bias, grads))
        return false;
    nb::gil_scoped_release others_run;
    check_positions(p);
    return answer(p, current.backward[x.dtype()]);
}

Answer double_backward(nb::handle of_grad_x_, nb::handle of_grad_mean_scale, nb::handle of_grad_weight,
                       nb::handle of_grad_bias, nb::handle grad_y, nb::handle x_, nb::handle ptr, nb::handle order,
                       nb::handle seed, nb::handle mean_scale_, nb::handle weight_, nb::handle bias_,
                       nb::handle statistics, int center, int scale, int64_t groups, double eps, int activation,
                       double dropout, int function, int threads, nb::handle grad_grad_y_, nb::handle grad_x_,
                       nb::handle grad_mean_scale, nb::handle grad_weight, nb::handle grad_bias) {
    const View x(x_), mean_scale(mean_scale_), weight(weight_), bias(bias_), grad_x(grad_x_);
    const View of_grad_x(of_grad_x_), grad_grad_y(grad_grad_y_);
    const View grads[3] = {View(grad_mean_scale), View(grad_weight), View(grad_bias)};
    const View of_grads[3] = {View(of_grad_mean_scale), View(of_grad_weight), View(of_grad_bias)};
    NormDoubleBackward p;
    if (!fill(p, {center, scale, groups, eps, activation, dropout, function, threads}, x, View(ptr), View(order),
              View(seed), mean_scale, weight, bias) ||
        !fill_statistics(p, x, View(statistics), false) ||
        !fill_backward(p, x, View(grad_y), grad_x, mean_scale, weight, bias, grads) || grad_x.none() ||
        !are_gradients(p, x, mean_scale, weight, bias, of_grads) || !of_grad_x.is_like(x) ||
        !grad_grad_y.is_like(x) || !grad_grad_y.contiguous())
        return false;
    p.of_grad_x = of_grad_x.data();
    p.of_grad_x_stride = of_grad_x.stride(0);
    p.of_grad_mean_scale = of_grads[0].data();
    p.of_grad_weight = of_grads[1].data();
    p.of_grad_bias = of_grads[2].data();
    p.grad_grad_y = grad_grad_y.data();
    nb::gil_scoped_release others_run;
    check_positions(p);
    return answer(p, current.double_backward[x.dtype()]);
}

// Of x the first row is read, which the statistics are relative to.
bool update_running(nb::handle x_, nb::handle statistics_, nb::handle mean_, nb::handle var_, int64_t rows,
                    double momentum) {
    const View x(x_), statistics(statistics_), mean(mean_), var(var_);
    if (x.dtype() < 0 || x.dtype() >= kDtypes || !x.has_whole_rows() || x.size(0) < 1 || rows < 2) return false;
    const int numbers = accumulation(x.dtype());
    const int64_t channels = x.size(1), bytes = numbers == kDouble ? 8 : 4;
    if (!statistics.is_vector(numbers, 3 * channels) || !mean.is_vector(numbers, channels) ||
        !var.is_vector(numbers, channels))
        return false;
    const char* shift = static_cast<const char*>(statistics.data());
    current.update_running[x.dtype()]({channels, rows, momentum, x.data(), shift, shift + 2 * channels * bytes,
                                       mean.data(), var.data()});
    return true;
}

}  // namespace

void bind_normalize(nb::module_& m) {
    m.def("normalize_forward", forward, nb::arg("x"), nb::arg("residual").none(), nb::arg("ptr"),
          nb::arg("order").none(), nb::arg("seed").none(), nb::arg("mean_scale").none(),
          nb::arg("weight").none(), nb::arg("bias").none(), nb::arg("center"), nb::arg("scale"),
          nb::arg("groups"), nb::arg("eps"), nb::arg("activation"), nb::arg("dropout"), nb::arg("function"),
          nb::arg("moment"), nb::arg("threads"), nb::arg("y"), nb::arg("statistics"));
    m.def("normalize_backward", backward, nb::arg("grad_y"), nb::arg("x"), nb::arg("ptr"),
          nb::arg("order").none(), nb::arg("seed").none(), nb::arg("mean_scale").none(),
          nb::arg("weight").none(), nb::arg("bias").none(), nb::arg("statistics"), nb::arg("center"),
          nb::arg("scale"), nb::arg("groups"), nb::arg("eps"), nb::arg("activation"), nb::arg("dropout"),
          nb::arg("function"), nb::arg("threads"), nb::arg("grad_x").none(), nb::arg("grad_mean_scale").none(),
          nb::arg("grad_weight").none(), nb::arg("grad_bias").none());
    m.def("normalize_double_backward", double_backward, nb::arg("of_grad_x"), nb::arg("of_grad_mean_scale").none(),
          nb::arg("of_grad_weight").none(), nb::arg("of_grad_bias").none(), nb::arg("grad_y"), nb::arg("x"),
          nb::arg("ptr"), nb::arg("order").none(), nb::arg("seed").none(), nb::arg("mean_scale").none(),
          nb::arg("weight").none(), nb::arg("bias").none(), nb::arg("statistics"), nb::arg("center"),
          nb::arg("scale"), nb::arg("groups"), nb::arg("eps"), nb::arg("activation"), nb::arg("dropout"),
          nb::arg("function"), nb::arg("threads"), nb::arg("grad_grad_y"), nb::arg("grad_x"),
          nb::arg("grad_mean_scale").none(), nb::arg("grad_weight").none(), nb::arg("grad_bias").none());
    m.def("update_running", update_running, nb::arg("x"), nb::arg("statistics"), nb::arg("mean"),
          nb::arg("var"), nb::arg("rows"), nb::arg("momentum"));
}

}  // namespace graphnorms
