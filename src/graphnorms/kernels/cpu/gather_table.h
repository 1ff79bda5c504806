// Which graphs of a packed set a minibatch takes.
#pragma once
#include <cstdint>
#include <limits>
#include <stdexcept>

#include "tensors.h"

namespace graphnorms {

// Four rows of one number per graph: its first node, its first edge, and how many of each it has.
struct Table {
    const int64_t* rows;
    int64_t graphs;
    int64_t first_node(int64_t g) const { return rows[g]; }
    int64_t first_edge(int64_t g) const { return rows[graphs + g]; }
    int64_t nodes(int64_t g) const { return rows[2 * graphs + g]; }
    int64_t edges(int64_t g) const { return rows[3 * graphs + g]; }
};

inline bool is_table(const View& table) {
    return table.dtype() == kInt64 && table.dims() == 2 && table.size(0) == 4 && table.contiguous();
}

struct Sizes {
    int64_t nodes = 0, edges = 0, longest = 0;  // longest: the nodes of the largest graph
};

// Throws where a graph lies outside a set of so many nodes and edges.
inline Sizes sizes_of(const Table& table, int64_t num_nodes, int64_t num_edges) {
    const auto within = [](int64_t first, int64_t count, int64_t size, int64_t so_far) {
        return first >= 0 && count >= 0 && first <= size && count <= size - first &&
               count <= std::numeric_limits<int64_t>::max() - so_far;
    };
    Sizes sizes;
    for (int64_t g = 0; g < table.graphs; ++g) {
        if (!within(table.first_node(g), table.nodes(g), num_nodes, sizes.nodes) ||
            !within(table.first_edge(g), table.edges(g), num_edges, sizes.edges))
            throw std::invalid_argument("a graph of the table lies outside the set");
        sizes.nodes += table.nodes(g);
        sizes.edges += table.edges(g);
        sizes.longest = table.nodes(g) > sizes.longest ? table.nodes(g) : sizes.longest;
    }
    return sizes;
}

}  // namespace graphnorms
