// What a linear map is asked to do: plain addresses and sizes, no torch and no Python.
// module_linear.cpp has checked every size, stride, dtype and device.
#pragma once
#include <cstdint>

namespace graphnorms {

// y = x Wᵀ + b in float32.
struct Linear {
    int64_t rows, in, out;
    const float* x;
    int64_t x_stride;
    const float* weight;  // (out, in), contiguous
    int threads;
};

struct LinearForward : Linear {
    const float* bias;  // (out), or null
    float* y;           // contiguous
};

// Every result is contiguous, or null where nobody asks.
struct LinearBackward : Linear {
    const float* grad_y;
    int64_t grad_y_stride;
    float* grad_x;
    float* grad_weight;
    float* grad_bias;
};

struct LinearKernels {
    void (*forward)(const LinearForward&);
    void (*backward)(const LinearBackward&);
};

}  // namespace graphnorms
