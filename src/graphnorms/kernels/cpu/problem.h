// What a kernel is asked to do: plain addresses and sizes, no torch and no Python.
// The Python side (kernels/cpu/backend.py) has checked every size, stride, dtype and device.
#pragma once
#include <cstdint>

#include "aggregate.h"

namespace graphnorms {

// Which entries share a statistic; the values are those of graphnorms.kernels.Over.
enum Over : int { kNone = 0, kNodes = 1, kChannels = 2, kBoth = 3 };
enum Activation : int { kIdentity = 0, kRelu = 1, kLeakyRelu = 2 };

struct Norm {
    int center, scale, activation, threads;
    int64_t rows, channels, groups, segments;
    const int64_t* ptr;    // (segments + 1): segment s holds the positions ptr[s] .. ptr[s+1]
    const int64_t* order;  // position -> row, or null where position == row
    double eps;
    // In the accumulation dtype:
    const void* mean_scale;  // (channels) or null
    const void* weight;      // (channels) or null
    const void* bias;        // (channels) or null
    void* shift;             // centre relative to the pivot, one per cell of the centre domain
    void* rstd;              // 1 / sqrt(s^2 + eps), one per cell of the scale domain
    void* moment;            // s^2, laid out as rstd, or null
};

struct NormForward : Norm {
    const void* x;
    int64_t x_stride;
    void* y;  // contiguous
};

struct NormBackward : Norm {
    const void* x;
    int64_t x_stride;
    const void* grad_y;
    int64_t grad_y_stride;
    void* grad_x;  // contiguous, or null where nobody asks
    void* grad_mean_scale;
    void* grad_weight;
    void* grad_bias;  // (channels) in the accumulation dtype, or null
};

// One table per instruction set; kernels.inl fills it.
struct Kernels {
    void (*forward[kDtypes])(const NormForward&);
    void (*backward[kDtypes])(const NormBackward&);
    AggregateKernels aggregation;
};

Kernels kernels_baseline();
Kernels kernels_avx2();
Kernels kernels_avx512();

}  // namespace graphnorms
