// What a kernel is asked to do: plain addresses and sizes, no torch and no Python.
// module_normalize.cpp has checked every size, stride, dtype and device.
#pragma once
#include <atomic>
#include <cstdint>

#include "aggregate.h"
#include "linear.h"

namespace graphnorms {

// Which entries share a statistic; the values are those of graphnorms.kernels.Over.
enum Over : int { kNone = 0, kNodes = 1, kChannels = 2, kBoth = 3 };
// What takes the place of the statistics; the values are the indices in graphnorms.kernels.point.FUNCTIONS.
enum Function : int { kNoFunction = 0, kTanh = 1, kErf = 2 };
enum Activation : int { kIdentity = 0, kRelu = 1, kLeakyRelu = 2, kGelu = 3, kSilu = 4 };

struct Norm {
    int center, scale, function, activation, threads;
    int64_t rows, channels, groups, segments;
    // (3, channels) or null: the cells of columns of the centre and of the scale, and divisors of
    // squares, in place of equal groups; see graphnorms.kernels.layout. Cells of columns of either:
    const int64_t* table;
    int64_t centers, scales;
    // (segments + 1): segment s holds the positions ptr[s] .. ptr[s+1]. Positions from the last
    // entry on are masked rows, which pass unchanged.
    const int64_t* ptr;
    const int64_t* order;  // position -> row, or null where position == row
    double eps;
    double dropout;       // share of the entries that is dropped behind the activation
    const int64_t* seed;  // of the dropout; null where there is none
    // In the accumulation dtype:
    const void* mean_scale;  // (channels) or null; of a function its slope, or its slope and shift
    int64_t arguments;       // entries of mean_scale, for a function: 1 or 2
    const void* weight;      // (channels), or (segments, channels), or null
    const void* bias;        // as weight
    int64_t affine_stride;   // from one segment's weight and bias to the next one's: 0 or channels
    void* shift;             // centre relative to the pivot, one per cell of the centre domain
    void* rstd;              // 1 / sqrt(s^2 + eps), one per cell of the scale domain
    void* moment;            // s^2, laid out as rstd, or null
    // Set where s^2 leaves the accumulation dtype, backward: where 1 / (s^2 + eps) does. The
    // result is then of no use, and the reference is asked.
    std::atomic<bool>* out_of_range;
};

struct NormForward : Norm {
    const void* x;
    int64_t x_stride;
    const void* residual;  // added at the very end, or null
    int64_t residual_stride;
    void* y;  // contiguous
};

// The gradient of the residual is grad_y itself.
struct NormBackward : Norm {
    const void* x;
    int64_t x_stride;
    const void* grad_y;
    int64_t grad_y_stride;
    void* grad_x;  // contiguous, or null where nobody asks
    void* grad_mean_scale;
    void* grad_weight;
    void* grad_bias;  // shaped as the parameters, in the accumulation dtype, or null
};

// The backward of the backward: its gradients, given the cotangents of the gradients that
// NormBackward returns. The parameters' cotangents and gradients are shaped as the parameters, in
// the accumulation dtype.
struct NormDoubleBackward : NormBackward {
    const void* of_grad_x;
    int64_t of_grad_x_stride;
    const void *of_grad_mean_scale, *of_grad_weight, *of_grad_bias;  // or null for 0
    void* grad_grad_y;                                               // contiguous, as grad_x
};

// Running averages of a batch's mean and unbiased variance: r = (1 - momentum) r + momentum v.
struct Running {
    int64_t channels;
    int64_t rows;
    double momentum;
    const void* pivot;   // (channels), storage dtype: the row that `shift` is relative to
    const void* shift;   // (channels), accumulation dtype
    const void* moment;  // (channels), accumulation dtype
    void* mean;
    void* var;  // (channels), accumulation dtype
};

// A forward by averages that are given in place of statistics; all rows count, in their order.
struct NormByAverages : NormForward {
    const void* mean;
    const void* var;  // (channels), accumulation dtype
};

// One table per instruction set; kernels.inl fills it, each pass in a translation unit of its own.
struct Kernels {
    void (*forward[kDtypes])(const NormForward&);
    void (*backward[kDtypes])(const NormBackward&);
    void (*double_backward[kDtypes])(const NormDoubleBackward&);
    void (*update_running[kDtypes])(const Running&);
    void (*by_averages[kDtypes])(const NormByAverages&);
    AggregateKernels aggregation;
    LinearKernels linear;
};

}  // namespace graphnorms
