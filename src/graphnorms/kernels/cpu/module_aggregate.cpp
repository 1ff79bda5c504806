// The aggregation's part of the Python module.
#include "module.h"

namespace graphnorms {

void bind_aggregate(nb::module_& m) {
    m.def(
        "aggregate",
        [](int dtype, int64_t rows, int64_t channels, int64_t edges, int threads, uintptr_t ptr,
           uintptr_t index, uintptr_t node_scale, double self_weight, uintptr_t x, int64_t x_stride,
           uintptr_t y) {
            Aggregate p;
            p.rows = rows;
            p.channels = channels;
            p.ptr = address<int64_t>(ptr);
            p.index = address<int64_t>(index);
            p.node_scale = address<void>(node_scale);
            p.self_weight = self_weight;
            p.x = address<void>(x);
            p.x_stride = x_stride;
            p.y = writable(y);
            p.threads = usable_threads(threads, (rows + edges) * channels);
            current.aggregation.forward[dtype](p);
        },
        nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace graphnorms
