// What an aggregation is asked to do: plain addresses and sizes, no torch and no Python.
// The Python side (kernels/cpu/aggregate.py) has checked every size, stride, dtype and device.
#pragma once
#include <cstdint>

#include "dtype.h"

namespace graphnorms {

// y_i = s_i (self_weight s_i x_i + sum over the j in row i of s_j x_j)
struct Aggregate {
    int64_t rows, channels;
    const int64_t* ptr;
    const int64_t* index;
    const void* node_scale;  // (rows) in the accumulation dtype, or null for 1
    double self_weight;
    const void* x;
    int64_t x_stride;
    void* y;
    int threads;
};

struct AggregateKernels {
    void (*forward[kDtypes])(const Aggregate&);
};

}  // namespace graphnorms
