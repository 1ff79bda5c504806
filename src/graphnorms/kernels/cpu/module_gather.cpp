// The gather of a minibatch: some graphs of a packed set, copied below each other.
//
// Copies and integers only, so one version serves every processor, and each graph is written by
// one thread to a place of its own.
#include <nanobind/stl/tuple.h>

#include <cstring>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "module.h"

namespace graphnorms {

namespace {

// Four rows of one number per graph: its first node, its first edge, and how many of each it has.
struct Table {
    const int64_t* rows;
    int64_t graphs;
    int64_t first_node(int64_t g) const { return rows[g]; }
    int64_t first_edge(int64_t g) const { return rows[graphs + g]; }
    int64_t nodes(int64_t g) const { return rows[2 * graphs + g]; }
    int64_t edges(int64_t g) const { return rows[3 * graphs + g]; }
};

struct Csr {
    const int64_t* ptr;
    const int64_t* index;
    int64_t* out_ptr;    // null where there is nothing to gather
    int64_t* out_index;
};

struct Features {
    const char* source;    // float rows, or columns of one-hot features
    int64_t width;         // of a row of the result
    int64_t blocks;        // columns per node, or 0 where the source has float rows
    int64_t column_bytes;  // 1, 2 or 4: uint8, int16 or int32
    float* out;
};

bool within(int64_t first, int64_t count, int64_t size) {
    return first >= 0 && count >= 0 && first <= size && count <= size - first;
}

// How many nodes and edges the graphs have, and the nodes of the largest.
std::tuple<int64_t, int64_t, int64_t> sizes(const Table& table, int64_t num_nodes, int64_t num_edges) {
    int64_t nodes = 0, edges = 0, longest = 0;
    for (int64_t g = 0; g < table.graphs; ++g) {
        if (!within(table.first_node(g), table.nodes(g), num_nodes) ||
            !within(table.first_edge(g), table.edges(g), num_edges))
            throw std::invalid_argument("a graph of the table lies outside the set");
        nodes += table.nodes(g);
        edges += table.edges(g);
        longest = table.nodes(g) > longest ? table.nodes(g) : longest;
    }
    return {nodes, edges, longest};
}

void copy_edges(const Csr& csr, const Table& table, int64_t g, int64_t node, int64_t edge) {
    if (!csr.out_ptr) return;
    const int64_t* ptr = csr.ptr + table.first_node(g);
    const int64_t first = table.first_edge(g);
    for (int64_t i = 0; i < table.nodes(g); ++i) csr.out_ptr[node + i + 1] = ptr[i + 1] - first + edge;
    for (int64_t k = 0; k < table.edges(g); ++k) csr.out_index[edge + k] = csr.index[first + k] + node;
}

template <class Column> void spread(const Features& x, int64_t first, int64_t nodes, float* out) {
    const Column* columns = reinterpret_cast<const Column*>(x.source) + first * x.blocks;
    std::memset(out, 0, size_t(nodes * x.width) * sizeof(float));
    for (int64_t i = 0; i < nodes; ++i)
        for (int64_t b = 0; b < x.blocks; ++b) out[i * x.width + columns[i * x.blocks + b]] = 1.0f;
}

void copy_features(const Features& x, int64_t first, int64_t nodes, int64_t node) {
    if (!nodes || !x.width) return;
    float* out = x.out + node * x.width;
    switch (x.blocks ? x.column_bytes : 0) {
        case 1: return spread<uint8_t>(x, first, nodes, out);
        case 2: return spread<int16_t>(x, first, nodes, out);
        case 4: return spread<int32_t>(x, first, nodes, out);
        default:
            std::memcpy(out, x.source + size_t(first * x.width) * sizeof(float),
                        size_t(nodes * x.width) * sizeof(float));
    }
}

void gather(const Table& table, const Csr& csr, const Csr& transpose, const Features& x, int64_t* out_ptr,
            int64_t* out_graph, int threads) {
    std::vector<int64_t> first_edge(size_t(table.graphs) + 1, 0);
    out_ptr[0] = 0;
    for (int64_t g = 0; g < table.graphs; ++g) {
        out_ptr[g + 1] = out_ptr[g] + table.nodes(g);
        first_edge[g + 1] = first_edge[g] + table.edges(g);
    }
    for (const Csr* pair : {&csr, &transpose})
        if (pair->out_ptr) pair->out_ptr[0] = 0;
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads) if (threads > 1)
    for (int64_t g = 0; g < table.graphs; ++g) {
        const int64_t node = out_ptr[g], nodes = table.nodes(g);
        for (int64_t i = 0; i < nodes; ++i) out_graph[node + i] = g;
        copy_edges(csr, table, g, node, first_edge[g]);
        copy_edges(transpose, table, g, node, first_edge[g]);
        copy_features(x, table.first_node(g), nodes, node);
    }
}

}  // namespace

void bind_gather(nb::module_& m) {
    m.def("gather_sizes", [](uintptr_t table, int64_t graphs, int64_t num_nodes, int64_t num_edges) {
        return sizes({address<int64_t>(table), graphs}, num_nodes, num_edges);
    });

    m.def(
        "gather",
        [](uintptr_t table, int64_t graphs, int threads, int64_t elements, uintptr_t ptr, uintptr_t index,
           uintptr_t transpose_ptr, uintptr_t transpose_index, uintptr_t x, int64_t width, int64_t blocks,
           int64_t column_bytes, uintptr_t out_ptr, uintptr_t out_graph, uintptr_t out_edge_ptr,
           uintptr_t out_edge_index, uintptr_t out_transpose_ptr, uintptr_t out_transpose_index,
           uintptr_t out_x) {
            const auto ints = [](uintptr_t a) { return reinterpret_cast<int64_t*>(a); };
            gather({address<int64_t>(table), graphs},
                   {address<int64_t>(ptr), address<int64_t>(index), ints(out_edge_ptr), ints(out_edge_index)},
                   {address<int64_t>(transpose_ptr), address<int64_t>(transpose_index),
                    ints(out_transpose_ptr), ints(out_transpose_index)},
                   {address<char>(x), width, blocks, column_bytes, reinterpret_cast<float*>(out_x)},
                   ints(out_ptr), ints(out_graph), usable_threads(threads, elements));
        },
        nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace graphnorms
