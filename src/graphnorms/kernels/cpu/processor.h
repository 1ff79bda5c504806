// What the processor has: for the dispatch, and for a build of the best set alone. Without a compiler
// flag of either set, so that any processor can run it.
#pragma once

namespace graphnorms {

[[maybe_unused]] static bool has_avx2() {
#ifdef __x86_64__
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#else
    return false;
#endif
}

[[maybe_unused]] static bool has_avx512() {
#ifdef __x86_64__
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
#else
    return false;
#endif
}

}  // namespace graphnorms
