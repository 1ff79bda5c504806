// The Python module: chooses an instruction set once, and passes addresses on to the kernels.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "module.h"
#include "tensors.h"

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

// Not in a header: an inline function could be taken from a translation unit for another processor.
#define GRAPHNORMS_INSTRUCTION_SET(set)            \
    void fill_##set##_forward(Kernels&);           \
    void fill_##set##_backward(Kernels&);          \
    void fill_##set##_double_backward(Kernels&);   \
    static Kernels kernels_##set() {               \
        Kernels kernels;                           \
        fill_##set##_forward(kernels);             \
        fill_##set##_backward(kernels);            \
        fill_##set##_double_backward(kernels);     \
        return kernels;                            \
    }

GRAPHNORMS_INSTRUCTION_SET(baseline)
#ifdef GRAPHNORMS_X86
GRAPHNORMS_INSTRUCTION_SET(avx2)
GRAPHNORMS_INSTRUCTION_SET(avx512)
#endif

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

    m.def("use_exchange", use_exchange, nb::arg("type"));

    bind_chain(m);
    bind_normalize(m);
    bind_aggregate(m);
    bind_gather(m);
    bind_linear(m);
}
