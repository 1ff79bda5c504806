// The aggregation's part of the Python module.
#include "module.h"

namespace graphnorms {

namespace {

void fill(Edges& p, int64_t rows, int64_t channels, int64_t edges, int threads, uintptr_t ptr, uintptr_t index,
          uintptr_t order, uintptr_t node_scale, uintptr_t edge_weight, uintptr_t edge_features,
          int64_t edge_features_stride, double self_weight) {
    p.rows = rows;
    p.channels = channels;
    p.ptr = address<int64_t>(ptr);
    p.index = address<int64_t>(index);
    p.order = address<int64_t>(order);
    p.node_scale = address<void>(node_scale);
    p.edge_weight = address<void>(edge_weight);
    p.edge_features = address<void>(edge_features);
    p.edge_features_stride = edge_features_stride;
    p.self_weight = self_weight;
    p.threads = usable_threads(threads, (rows + edges) * channels);
    check_offsets(p.ptr, rows, edges);
    check_ids("index", p.index, edges, rows);
    if (p.order) check_ids("order", p.order, edges, edges);
}

}  // namespace

void bind_aggregate(nb::module_& m) {
    m.def(
        "aggregate",
        [](int dtype, int64_t rows, int64_t channels, int64_t edges, int threads, uintptr_t ptr,
           uintptr_t index, uintptr_t order, uintptr_t node_scale, uintptr_t edge_weight, uintptr_t edge_features,
           int64_t edge_features_stride, double self_weight, uintptr_t x, int64_t x_stride, uintptr_t y) {
            Aggregate p;
            fill(p, rows, channels, edges, threads, ptr, index, order, node_scale, edge_weight,
                 edge_features, edge_features_stride, self_weight);
            p.x = address<void>(x);
            p.x_stride = x_stride;
            p.y = writable(y);
            current.aggregation.forward[dtype](p);
        },
        nb::call_guard<nb::gil_scoped_release>());

    m.def(
        "aggregate_backward",
        [](int dtype, int64_t rows, int64_t channels, int64_t edges, int threads, uintptr_t ptr,
           uintptr_t index, uintptr_t order, uintptr_t node_scale, uintptr_t edge_weight, uintptr_t edge_features,
           int64_t edge_features_stride, double self_weight, uintptr_t x, int64_t x_stride, uintptr_t grad_y,
           int64_t grad_y_stride, uintptr_t grad_x, uintptr_t grad_edge_weight, uintptr_t grad_edge_features) {
            AggregateBackward p;
            fill(p, rows, channels, edges, threads, ptr, index, order, node_scale, edge_weight,
                 edge_features, edge_features_stride, self_weight);
            p.x = address<void>(x);
            p.x_stride = x_stride;
            p.grad_y = address<void>(grad_y);
            p.grad_y_stride = grad_y_stride;
            p.grad_x = writable(grad_x);
            p.grad_edge_weight = writable(grad_edge_weight);
            p.grad_edge_features = writable(grad_edge_features);
            current.aggregation.backward[dtype](p);
        },
        nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace graphnorms
