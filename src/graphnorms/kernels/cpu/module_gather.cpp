// The gather of a minibatch: some graphs of a packed set, copied below each other.
//
// Copies and integers only, so one version serves every processor, and each graph is written by
// one thread to a place of its own. Where the rows have been read already, see module_read.cpp, the edges lie where they
// belong, and so do float features.
#include <cstring>
#include <stdexcept>
#include <vector>

#include "gather_table.h"
#include "module.h"
#include "tensors.h"

namespace graphnorms {

namespace {

struct Csr {
    const int64_t* ptr;  // null where the rows have been read
    const int64_t* index;
    int64_t* out_ptr;  // null where there is nothing to gather
    int64_t* out_index;
};

struct Features {
    const char* source;    // float rows, or columns of one-hot features: of the set, or those that have been read
    int64_t width;         // of a row of the result
    int64_t blocks;        // columns per node, or 0 where the source has float rows
    int64_t column_bytes;  // 1, 2 or 4: uint8, int16 or int32
    float* out;
};

// These return whether all ids lie within the graph, and all columns within the features: a set that is mapped from
// files has not been read before, and what is gathered here is not checked again.
bool copy_edges(const Csr& csr, const Table& table, int64_t g, int64_t node, int64_t edge) {
    if (!csr.out_ptr) return true;
    const int64_t first = table.first_edge(g), nodes = table.nodes(g), edges = table.edges(g);
    const int64_t* ends = (csr.ptr ? csr.ptr + table.first_node(g) : csr.out_ptr + node) + 1;
    const int64_t* ids = csr.ptr ? csr.index + first : csr.out_index + edge;
    bool valid = true;
    int64_t before = first;
    for (int64_t i = 0; i < nodes; ++i) {
        const int64_t end = ends[i];
        valid &= before <= end;
        csr.out_ptr[node + i + 1] = end - first + edge;
        before = end;
    }
    valid &= before == first + edges;
    for (int64_t k = 0; k < edges; ++k) {
        const int64_t id = ids[k];
        valid &= uint64_t(id) < uint64_t(nodes);
        csr.out_index[edge + k] = id + node;
    }
    return valid;
}

template <class Column> bool spread(const Features& x, int64_t first, int64_t nodes, float* out) {
    const Column* columns = reinterpret_cast<const Column*>(x.source) + first * x.blocks;
    bool valid = true;
    for (int64_t k = 0; k < nodes * x.blocks; ++k) valid &= uint64_t(int64_t(columns[k])) < uint64_t(x.width);
    if (!valid) return false;
    std::memset(out, 0, size_t(nodes * x.width) * sizeof(float));
    for (int64_t i = 0; i < nodes; ++i)
        for (int64_t b = 0; b < x.blocks; ++b) out[i * x.width + columns[i * x.blocks + b]] = 1.0f;
    return true;
}

bool copy_features(const Features& x, int64_t first, int64_t nodes, int64_t node) {
    if (!nodes || !x.width) return true;
    float* out = x.out + node * x.width;
    switch (x.blocks ? x.column_bytes : 0) {
        case 1: return spread<uint8_t>(x, first, nodes, out);
        case 2: return spread<int16_t>(x, first, nodes, out);
        case 4: return spread<int32_t>(x, first, nodes, out);
        default:
            if (const char* rows = x.source + size_t(first * x.width) * sizeof(float);
                rows != reinterpret_cast<const char*>(out))
                std::memcpy(out, rows, size_t(nodes * x.width) * sizeof(float));
            return true;
    }
}

bool gather(const Table& table, const Csr& csr, const Csr& transpose, const Features& x, int64_t* out_ptr,
            int64_t* out_graph, int threads) {
    std::vector<int64_t> first_edge(size_t(table.graphs) + 1, 0);
    out_ptr[0] = 0;
    for (int64_t g = 0; g < table.graphs; ++g) {
        out_ptr[g + 1] = out_ptr[g] + table.nodes(g);
        first_edge[g + 1] = first_edge[g] + table.edges(g);
    }
    for (const Csr* pair : {&csr, &transpose})
        if (pair->out_ptr) pair->out_ptr[0] = 0;
    bool valid = true;
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads) if (threads > 1) reduction(&& : valid)
    for (int64_t g = 0; g < table.graphs; ++g) {
        const int64_t node = out_ptr[g], nodes = table.nodes(g);
        for (int64_t i = 0; i < nodes; ++i) out_graph[node + i] = g;
        const bool edges = copy_edges(csr, table, g, node, first_edge[g]);
        const bool reversed = copy_edges(transpose, table, g, node, first_edge[g]);
        const bool features = copy_features(x, csr.ptr ? table.first_node(g) : node, nodes, node);
        valid = valid && edges && reversed && features;
    }
    return valid;
}

nb::object gather_sizes(nb::handle table_, int64_t num_nodes, int64_t num_edges) {
    const View table(table_);
    if (!is_table(table)) return nb::none();
    const Sizes sizes = sizes_of({table.as<const int64_t>(), table.size(1)}, num_nodes, num_edges);
    return nb::make_tuple(sizes.nodes, sizes.edges, sizes.longest);
}

// A CSR pair and room for what is gathered of it; false where they do not fit, none of it where both lack.
bool fill(Csr& csr, const View& ptr, const View& index, const View& out_ptr, const View& out_index,
          int64_t num_nodes, int64_t num_edges, const Sizes& sizes) {
    csr = {ptr.as<const int64_t>(), index.as<const int64_t>(), out_ptr.as<int64_t>(), out_index.as<int64_t>()};
    if (ptr.none() && index.none() && out_ptr.none() && out_index.none()) return true;
    return ptr.is_index(num_nodes + 1) && index.is_index(num_edges) && out_ptr.is_index(sizes.nodes + 1) &&
           out_index.is_index(sizes.edges);
}

// `read` is none, or the rows of x that the graphs take: then the results hold their edges already, with the numbers that
// these have in the set, and of x, ptr and index only the sizes are looked at.
bool gather_graphs(nb::handle table_, nb::handle x_, int64_t width, nb::handle ptr, nb::handle index_,
                   nb::handle transpose_ptr, nb::handle transpose_index, nb::handle read_, int threads,
                   nb::handle out_x_, nb::handle out_ptr_, nb::handle out_graph_, nb::handle out_edge_ptr, nb::handle out_edge_index,
                   nb::handle out_transpose_ptr, nb::handle out_transpose_index) {
    const View table(table_), x(x_), index(index_), read(read_);
    const View out_x(out_x_), out_ptr(out_ptr_), out_graph(out_graph_);
    const bool dense = x.dtype() == kFloat;
    const int64_t column_bytes = x.dtype() == kUInt8 ? 1 : x.dtype() == kInt16 ? 2 : x.dtype() == kInt32 ? 4 : 0;
    if (!is_table(table) || !(dense || column_bytes) || x.dims() != 2 || !x.contiguous() ||
        (dense && x.size(1) != width) || !index.is_index())
        return false;
    const Table graphs{table.as<const int64_t>(), table.size(1)};
    const int64_t num_nodes = x.size(0), num_edges = index.size(0);
    const Sizes sizes = sizes_of(graphs, num_nodes, num_edges);
    Csr csr, transpose;
    if (!fill(csr, View(ptr), index, View(out_edge_ptr), View(out_edge_index), num_nodes, num_edges, sizes) ||
        !fill(transpose, View(transpose_ptr), View(transpose_index), View(out_transpose_ptr),
              View(out_transpose_index), num_nodes, num_edges, sizes) ||
        !out_x.is_matrix(kFloat, sizes.nodes, width) || !out_ptr.is_index(graphs.graphs + 1) ||
        !out_graph.is_index(sizes.nodes) ||
        !(read.none() || read.is_matrix(x.dtype(), sizes.nodes, x.size(1))))
        return false;
    if (!read.none()) csr.ptr = csr.index = transpose.ptr = transpose.index = nullptr;
    const Features features{(read.none() ? x : read).as<const char>(), width, dense ? 0 : x.size(1), column_bytes, out_x.as<float>()};
    const int usable = usable_threads(threads, sizes.nodes * (width + 2) + 2 * sizes.edges);
    bool valid;
    {
        nb::gil_scoped_release others_run;
        valid = gather(graphs, csr, transpose, features, out_ptr.as<int64_t>(), out_graph.as<int64_t>(), usable);
    }
    if (!valid) throw std::invalid_argument("the set is damaged: an edge or a one-hot column lies outside its graph");
    return true;
}

}  // namespace

void bind_gather(nb::module_& m) {
    m.def("gather_sizes", gather_sizes, nb::arg("table"), nb::arg("num_nodes"), nb::arg("num_edges"));
    m.def("gather", gather_graphs, nb::arg("table"), nb::arg("x"), nb::arg("width"), nb::arg("ptr"),
          nb::arg("index"), nb::arg("transpose_ptr").none(), nb::arg("transpose_index").none(),
          nb::arg("read").none(), nb::arg("threads"), nb::arg("out_x"), nb::arg("out_ptr"), nb::arg("out_graph"), nb::arg("out_edge_ptr"),
          nb::arg("out_edge_index"), nb::arg("out_transpose_ptr").none(), nb::arg("out_transpose_index").none());
}

}  // namespace graphnorms
