// The aggregation as functions of tensors: everything is checked here before an address is used.
//
// As in module_normalize.cpp a call that does not fit is answered with false.
#include "module.h"
#include "tensors.h"

namespace graphnorms {

namespace {

// Whether each edge has a row as x has them.
bool is_message(const View& rows, const View& x, int64_t edges) {
    return rows.dtype() == x.dtype() && rows.has_whole_rows() && rows.size(0) == edges && rows.size(1) == x.size(1);
}

// Fill in what forward and backward have in common, if it fits together.
bool fill(Edges& p, const View& x, const View& ptr, const View& index, const View& order, const View& node_scale,
          const View& edge_weight, const View& edge_features, double self_weight, int threads) {
    const bool known = x.dtype() >= 0 && x.dtype() < kDtypes;
    if (!known || !x.has_whole_rows() || !ptr.is_index(x.size(0) + 1) || !index.is_index()) return false;
    const int64_t edges = index.size(0);
    const int numbers = accumulation(x.dtype());
    p.rows = x.size(0);
    p.channels = x.size(1);
    if ((!order.none() && !order.is_index(edges)) ||
        (!node_scale.none() && !node_scale.is_vector(numbers, p.rows)) ||
        (!edge_weight.none() && !edge_weight.is_vector(numbers, edges)))
        return false;
    if (!edge_features.none() && (!node_scale.none() || !edge_weight.none() || !is_message(edge_features, x, edges)))
        return false;
    p.ptr = ptr.as<const int64_t>();
    p.index = index.as<const int64_t>();
    p.order = order.as<const int64_t>();
    p.node_scale = node_scale.data();
    p.edge_weight = edge_weight.data();
    p.edge_features = edge_features.data();
    p.edge_features_stride = edge_features.none() ? 0 : edge_features.stride(0);
    p.self_weight = self_weight;
    p.threads = usable_threads(threads, (p.rows + edges) * p.channels);
    return true;
}

void check_positions(const Edges& p, int64_t edges) {
    check_offsets(p.ptr, p.rows, edges);
    check_ids("index", p.index, edges, p.rows);
    if (p.order) check_ids("order", p.order, edges, edges);
}

bool sum(const View& x, const View& ptr, const View& index, const View& order, const View& node_scale,
         const View& edge_weight, const View& edge_features, double self_weight, int threads, const View& y) {
    Aggregate p;
    if (!fill(p, x, ptr, index, order, node_scale, edge_weight, edge_features, self_weight, threads) ||
        !y.is_like(x) || !y.contiguous())
        return false;
    p.x = x.data();
    p.x_stride = x.stride(0);
    p.y = y.data();
    nb::gil_scoped_release others_run;
    check_positions(p, index.size(0));
    current.aggregation.forward[x.dtype()](p);
    return true;
}

bool forward(nb::handle x, nb::handle ptr, nb::handle index, nb::handle order, nb::handle node_scale,
             nb::handle edge_weight, nb::handle edge_features, double self_weight, int threads, nb::handle y) {
    return sum(View(x), View(ptr), View(index), View(order), View(node_scale), View(edge_weight),
               View(edge_features), self_weight, threads, View(y));
}

bool backward(nb::handle grad_y_, nb::handle x_, nb::handle ptr, nb::handle index_, nb::handle order,
              nb::handle node_scale, nb::handle edge_weight_, nb::handle edge_features_, double self_weight,
              int threads, nb::handle grad_x_, nb::handle grad_edge_weight_, nb::handle grad_edge_features_) {
    const View grad_y(grad_y_), x(x_), index(index_), edge_weight(edge_weight_), edge_features(edge_features_);
    const View grad_x(grad_x_), grad_edge_weight(grad_edge_weight_), grad_edge_features(grad_edge_features_);
    AggregateBackward p;
    if (!fill(p, x, View(ptr), index, View(order), View(node_scale), edge_weight, edge_features, self_weight,
              threads) ||
        !grad_y.is_like(x) || (!grad_x.none() && !(grad_x.is_like(x) && grad_x.contiguous())))
        return false;
    const int64_t edges = index.size(0);
    if (edge_weight.none() == edge_features.none() ||
        edge_weight.none() != grad_edge_weight.none() ||
        (!edge_weight.none() && !grad_edge_weight.is_vector(accumulation(x.dtype()), edges)) ||
        (!grad_edge_features.none() && (edge_features.none() || !is_message(grad_edge_features, x, edges) ||
                                        !grad_edge_features.contiguous())))
        return false;
    p.x = x.data();
    p.x_stride = x.stride(0);
    p.grad_y = grad_y.data();
    p.grad_y_stride = grad_y.stride(0);
    p.grad_x = grad_x.data();
    p.grad_edge_weight = grad_edge_weight.data();
    p.grad_edge_features = grad_edge_features.data();
    nb::gil_scoped_release others_run;
    check_positions(p, edges);
    current.aggregation.backward[x.dtype()](p);
    return true;
}

}  // namespace

bool sum_neighbours(const View& x, const View& ptr, const View& index, const View& node_scale, double self_weight,
                    int threads, const View& y) {
    const View none{nb::none()};
    return sum(x, ptr, index, none, node_scale, none, none, self_weight, threads, y);
}

void bind_aggregate(nb::module_& m) {
    m.def("aggregate", forward, nb::arg("x"), nb::arg("ptr"), nb::arg("index"), nb::arg("order").none(),
          nb::arg("node_scale").none(), nb::arg("edge_weight").none(), nb::arg("edge_features").none(),
          nb::arg("self_weight"), nb::arg("threads"), nb::arg("y"));
    m.def("aggregate_backward", backward, nb::arg("grad_y"), nb::arg("x"), nb::arg("ptr"), nb::arg("index"),
          nb::arg("order").none(), nb::arg("node_scale").none(), nb::arg("edge_weight").none(),
          nb::arg("edge_features").none(), nb::arg("self_weight"), nb::arg("threads"), nb::arg("grad_x").none(),
          nb::arg("grad_edge_weight").none(), nb::arg("grad_edge_features").none());
}

}  // namespace graphnorms
