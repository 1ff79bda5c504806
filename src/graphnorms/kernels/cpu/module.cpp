// The Python module: chooses an instruction set once, and passes addresses on to the kernels.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "module.h"
#include "processor.h"
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

#ifdef GRAPHNORMS_HAS_BASELINE
GRAPHNORMS_INSTRUCTION_SET(baseline)
#else
constexpr Kernels (*kernels_baseline)() = nullptr;
#endif
#ifdef GRAPHNORMS_HAS_AVX2
GRAPHNORMS_INSTRUCTION_SET(avx2)
#else
[[maybe_unused]] constexpr Kernels (*kernels_avx2)() = nullptr;
#endif
#ifdef GRAPHNORMS_HAS_AVX512
GRAPHNORMS_INSTRUCTION_SET(avx512)
#else
[[maybe_unused]] constexpr Kernels (*kernels_avx512)() = nullptr;
#endif

}  // namespace graphnorms

namespace {

struct InstructionSet {
    const char* name;
    Kernels (*kernels)();  // null: not compiled, see GRAPHNORMS_SETS in CMakeLists.txt
    bool supported;        // by this processor
};

// Those of this kind of processor, the best one first.
std::vector<InstructionSet> instruction_sets() {
    return {
#ifdef GRAPHNORMS_X86
        {"avx512", kernels_avx512, has_avx512()},
        {"avx2", kernels_avx2, has_avx2()},
#endif
        {"baseline", kernels_baseline, true},
    };
}

std::vector<std::string> usable_instruction_sets() {
    std::vector<std::string> names;
    for (const InstructionSet& set : instruction_sets())
        if (set.kernels && set.supported) names.push_back(set.name);
    return names;
}

std::string current_name;
void use_instruction_set(const std::string& name) {
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.kernels || !set.supported || (!name.empty() && name != set.name)) continue;
        current = set.kernels();
        current_name = set.name;
        return;
    }
    std::string known;
    for (const std::string& each : usable_instruction_sets()) known += (known.empty() ? "" : ", ") + each;
    throw std::invalid_argument("instruction set " + name + ", expected one that is built in and runs here: " + known);
}

std::vector<std::string> missing_instruction_sets() {
    std::vector<std::string> names;
    for (const InstructionSet& set : instruction_sets())
        if (!set.kernels) names.push_back(set.name);
    return names;
}

}  // namespace

NB_MODULE(_kernels, m) {
    if (!usable_instruction_sets().empty()) use_instruction_set("");
#ifdef _OPENMP
    m.attr("openmp") = true;
#else
    m.attr("openmp") = false;
#endif
    m.def("instruction_set", [] { return current_name; });
    m.def("instruction_sets", usable_instruction_sets);
    m.def("missing_instruction_sets", missing_instruction_sets);
    m.def("use_instruction_set", use_instruction_set, nb::arg("name"));
    m.def("after_fork_in_child", [] { forked = true; });

    m.def("use_exchange", use_exchange, nb::arg("type"));

    bind_chain(m);
    bind_normalize(m);
    bind_aggregate(m);
    bind_gather(m);
    bind_read(m);
    bind_linear(m);
}
