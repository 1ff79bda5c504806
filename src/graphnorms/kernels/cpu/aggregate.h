// What an aggregation is asked to do: plain addresses and sizes, no torch and no Python.
// module_aggregate.cpp has checked every size, stride, dtype and device.
#pragma once
#include <cstdint>

#include "dtype.h"

namespace graphnorms {

// With e = order[k] the edge at position k of the CSR pair, s the node scale and a the weights,
//
//     y_i = s_i (self_weight s_i x_i + sum over the k in row i of a_e s_j x_j),  j = index[k],
//
// or, with features z of the edges and neither s nor a,
//
//     y_i = self_weight x_i + sum over the k in row i of relu(x_j + z_e).
struct Edges {
    int64_t rows, channels;
    const int64_t* ptr;
    const int64_t* index;
    const int64_t* order;       // position -> edge, or null where they are the same
    const void* node_scale;     // (rows) in the accumulation dtype, or null for 1
    const void* edge_weight;    // (edges) in the accumulation dtype, or null for 1
    const void* edge_features;  // (edges, channels), or null
    int64_t edge_features_stride;
    double self_weight;
    int threads;
};

struct Aggregate : Edges {
    const void* x;
    int64_t x_stride;
    void* y;  // contiguous
};

// The edges are those of the transpose: row j lists the i of the edges j -> i.
struct AggregateBackward : Edges {
    const void* x;
    int64_t x_stride;
    const void* grad_y;
    int64_t grad_y_stride;
    void* grad_x;              // contiguous, or null where nobody asks
    void* grad_edge_weight;    // (edges) in the accumulation dtype, or null
    void* grad_edge_features;  // (edges, channels), contiguous, or null
};

struct AggregateKernels {
    void (*forward[kDtypes])(const Aggregate&);
    void (*backward[kDtypes])(const AggregateBackward&);
};

}  // namespace graphnorms
