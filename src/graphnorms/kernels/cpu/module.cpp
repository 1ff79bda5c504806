// The Python module: chooses an instruction set once, and passes addresses on to the kernels.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "module.h"

using namespace graphnorms;

namespace {

// GNU's OpenMP cannot start threads in a forked child of a process that had some.
bool forked = false;

}  // namespace

namespace graphnorms {

Kernels current;

int usable_threads(int wanted, int64_t elements) {
#ifdef _OPENMP
    constexpr int64_t kWorthAThread = 1 << 15;
    return forked || elements < 2 * kWorthAThread ? 1 : wanted;
#else
    return 1;
#endif
}

void check_offsets(const int64_t* ptr, int64_t count, int64_t end) {
    if (ptr[0] != 0) throw nb::value_error("ptr does not begin with 0");
    for (int64_t i = 0; i < count; ++i)
        if (ptr[i + 1] < ptr[i]) throw nb::value_error("ptr does not ascend");
    if (ptr[count] > end) throw nb::value_error("ptr ends behind what it divides");
}

void check_ids(const char* name, const int64_t* ids, int64_t count, int64_t end) {
    bool inside = true;
    for (int64_t i = 0; i < count; ++i) inside &= uint64_t(ids[i]) < uint64_t(end);
    if (!inside) throw nb::value_error((std::string(name) + " has an id outside what it counts").c_str());
}

}  // namespace graphnorms

namespace {

struct InstructionSet {
    const char* name;
    Kernels (*kernels)();
    bool supported;
};

std::vector<InstructionSet> instruction_sets() {
    std::vector<InstructionSet> sets;
#ifdef GRAPHNORMS_X86
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    sets.push_back({"avx512", kernels_avx512, avx512});
    sets.push_back({"avx2", kernels_avx2, avx2});
#endif
    sets.push_back({"baseline", kernels_baseline, true});
    return sets;
}

std::string current_name;
void use_instruction_set(const std::string& name) {
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.supported || (!name.empty() && name != set.name)) continue;
        current = set.kernels();
        current_name = set.name;
        return;
    }
    throw std::invalid_argument("this processor has no instruction set " + name);
}

std::vector<std::string> supported_instruction_sets() {
    std::vector<std::string> names;
    for (const InstructionSet& set : instruction_sets())
        if (set.supported) names.push_back(set.name);
    return names;
}

// The numbers of a call, in the order in which kernels/cpu/normalize.py passes them.
struct Common {
    int dtype;
    int64_t rows, channels, segments, groups;
    int center, scale, activation, threads;
    double eps, dropout;
    int64_t affine_stride;
};

void fill(Norm& n, const Common& common, uintptr_t ptr, uintptr_t order, uintptr_t seed, uintptr_t mean_scale,
          uintptr_t weight, uintptr_t bias) {
    n.center = common.center;
    n.scale = common.scale;
    n.activation = common.activation;
    n.threads = usable_threads(common.threads, common.rows * common.channels);
    n.rows = common.rows;
    n.channels = common.channels;
    n.groups = common.groups;
    n.segments = common.segments;
    n.ptr = address<int64_t>(ptr);
    n.order = address<int64_t>(order);
    n.eps = common.eps;
    n.dropout = common.dropout;
    n.seed = address<int64_t>(seed);
    n.mean_scale = address<void>(mean_scale);
    n.weight = address<void>(weight);
    n.bias = address<void>(bias);
    n.affine_stride = common.affine_stride;
}

void check_positions(const Norm& n) {
    check_offsets(n.ptr, n.segments, n.rows);
    if (n.order) check_ids("order", n.order, n.rows, n.rows);
}

// One tensor holds the statistics: shift, then rstd, then the moment where it is asked for.
int64_t cells(const Norm& n, int over) {
    return (over == kChannels ? n.rows : over == kNone ? 0 : n.segments) *
           (over == kNodes ? n.channels : n.groups);
}
void fill_statistics(Norm& n, int dtype, uintptr_t statistics, bool with_moment) {
    const int64_t size = dtype == kDouble ? 8 : 4, centers = cells(n, n.center), scales = cells(n, n.scale);
    n.shift = writable(statistics);
    n.rstd = writable(statistics + uintptr_t(centers * size));
    n.moment = with_moment ? writable(statistics + uintptr_t((centers + scales) * size)) : nullptr;
}

}  // namespace

NB_MODULE(_kernels, m) {
    use_instruction_set("");
#ifdef _OPENMP
    m.attr("openmp") = true;
#else
    m.attr("openmp") = false;
#endif
    m.def("instruction_set", [] { return current_name; });
    m.def("instruction_sets", supported_instruction_sets);
    m.def("use_instruction_set", use_instruction_set, nb::arg("name"));
    m.def("after_fork_in_child", [] { forked = true; });

    m.def(
        "normalize_forward",
        [](int dtype, int64_t rows, int64_t channels, int64_t segments, int64_t groups, int center, int scale,
           int activation, int threads, double eps, double dropout, int64_t affine_stride, uintptr_t ptr,
           uintptr_t order, uintptr_t seed, uintptr_t mean_scale, uintptr_t weight, uintptr_t bias,
           uintptr_t statistics, bool with_moment, uintptr_t x, int64_t x_stride, uintptr_t residual,
           int64_t residual_stride, uintptr_t y) {
            NormForward p;
            fill(p, {dtype, rows, channels, segments, groups, center, scale, activation, threads, eps, dropout,
                     affine_stride}, ptr, order, seed, mean_scale, weight, bias);
            check_positions(p);
            fill_statistics(p, dtype, statistics, with_moment);
            p.x = address<void>(x);
            p.x_stride = x_stride;
            p.residual = address<void>(residual);
            p.residual_stride = residual_stride;
            p.y = writable(y);
            current.forward[dtype](p);
        },
        nb::call_guard<nb::gil_scoped_release>());

    m.def(
        "normalize_backward",
        [](int dtype, int64_t rows, int64_t channels, int64_t segments, int64_t groups, int center, int scale,
           int activation, int threads, double eps, double dropout, int64_t affine_stride, uintptr_t ptr,
           uintptr_t order, uintptr_t seed, uintptr_t mean_scale, uintptr_t weight, uintptr_t bias,
           uintptr_t statistics, uintptr_t x, int64_t x_stride, uintptr_t grad_y, int64_t grad_y_stride,
           uintptr_t grad_x, uintptr_t grad_mean_scale, uintptr_t grad_weight, uintptr_t grad_bias) {
            NormBackward p;
            fill(p, {dtype, rows, channels, segments, groups, center, scale, activation, threads, eps, dropout,
                     affine_stride}, ptr, order, seed, mean_scale, weight, bias);
            check_positions(p);
            fill_statistics(p, dtype, statistics, false);
            p.x = address<void>(x);
            p.x_stride = x_stride;
            p.grad_y = address<void>(grad_y);
            p.grad_y_stride = grad_y_stride;
            p.grad_x = writable(grad_x);
            p.grad_mean_scale = writable(grad_mean_scale);
            p.grad_weight = writable(grad_weight);
            p.grad_bias = writable(grad_bias);
            current.backward[dtype](p);
        },
        nb::call_guard<nb::gil_scoped_release>());

    m.def(
        "update_running",
        [](int dtype, int64_t rows, int64_t channels, double momentum, uintptr_t pivot, uintptr_t shift,
           uintptr_t moment, uintptr_t mean, uintptr_t var) {
            current.update_running[dtype](
                {channels, rows, momentum, address<void>(pivot), address<void>(shift), address<void>(moment),
                 writable(mean), writable(var)});
        },
        nb::call_guard<nb::gil_scoped_release>());

    bind_aggregate(m);
    bind_gather(m);
}
