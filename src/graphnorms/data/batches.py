"""Minibatches: a few graphs of a packed set copied below each other, by gathers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data.gather import GatherPlan, GatherTable, consecutive
from graphnorms.data.onehot import OneHot
from graphnorms.kernels.cpu import extension, gather
from graphnorms.segments import Segments

Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class GraphBatch:
    """A minibatch: the graphs asked for as one graph of many components.

    Args:
        x: Node features, `(nodes, features)` float32.
        y: Targets of the items, which are the graphs or the nodes of the batch; see `Task`.
        segments: Which rows of `x` belong to which graph.
        adjacency: The edges, with the nodes counted through the batch.
        edge_features: `(edges, edge features)` float32 in the order of the edges of
            `adjacency`, if the set has any.
    """

    x: Tensor
    y: Tensor
    segments: Segments
    adjacency: Adjacency
    edge_features: Tensor | None = None

    @property
    def num_graphs(self) -> int:
        """Number of graphs."""
        return self.segments.num_segments


@dataclass(frozen=True, eq=False)
class Batcher:
    """The tensors of a packed set, as forming a minibatch needs them; see `GraphSet`.

    Args:
        table: Where each graph stands.
        x: Node features.
        y: Targets of the items.
        y_of_nodes: Whether the items are the nodes; else they are the graphs.
        edges: The CSR pair, its ids counted within each graph.
        transpose: The same for the transpose; None where every graph is symmetric.
        edge_features: Of the edges in the order of `edges`, or None.
        transpose_order: With edge features, the place in `edges` of each edge of the transpose.
    """

    table: GatherTable
    x: Tensor | OneHot
    y: Tensor
    y_of_nodes: bool
    edges: Pair
    transpose: Pair | None
    edge_features: Tensor | OneHot | None
    transpose_order: Tensor | None

    def batch(self, graph_ids: Tensor) -> GraphBatch:
        """Form the minibatch of some graphs, in the order asked for.

        On the CPU one pass of the C++ extension; without it, and on a GPU, a fixed number of
        tensor operations. Edge features are gathered by tensor operations on either.

        Raises:
            ValueError: `graph_ids` is not a vector of integers, or holds an id outside the set.
        """
        if self.y.device.type == "cpu" and extension.unavailable() is None:
            return self._copied(graph_ids)
        return self._gathered(self.table.plan(graph_ids))

    def _copied(self, graph_ids: Tensor) -> GraphBatch:
        ids, table = self.table.choose(graph_ids)
        x = self.x.columns if isinstance(self.x, OneHot) else self.x
        made = gather.gather(table, x, self.x.shape[1], self.edges, self.transpose)
        places, shift = None, None
        if self.edge_features is not None:
            places, shift = consecutive(table[1], table[3])  # first edges, numbers of edges
        items = consecutive(table[0], table[2])[0] if self.y_of_nodes else ids
        segments = Segments(made.ptr, None, made.x.shape[0], longest=made.longest, index=made.graph)
        return self._assemble(made.x, items, segments, made.edges, made.transpose, places, shift)

    def _gathered(self, plan: GatherPlan) -> GraphBatch:
        nodes, graph_of_node = plan.nodes()
        places, graph_of_edge = plan.edges()
        first = plan.ptr.index_select(0, graph_of_edge)  # (edges,), the graph's first node
        edges = gather_edges(self._in_degree, self.edges[1], nodes, places)
        edges[1].add_(first)
        transpose = None
        if self.transpose is not None:
            transpose = gather_edges(self._out_degree, self.transpose[1], nodes, places)
            transpose[1].add_(first)
        shift = None
        if self.edge_features is not None:
            shift = plan.shift[1].index_select(0, graph_of_edge)
        segments = Segments(
            plan.ptr, None, plan.num_nodes, longest=plan.longest, index=graph_of_node
        )
        return self._assemble(
            dense(self.x.index_select(0, nodes)), nodes if self.y_of_nodes else plan.graph_ids,
            segments, edges, transpose, places, shift,
        )  # fmt: skip

    @cached_property
    def _in_degree(self) -> Tensor:
        return self.edges[0].diff()

    @cached_property
    def _out_degree(self) -> Tensor:
        return (self.transpose or self.edges)[0].diff()

    def _assemble(
        self,
        x: Tensor,
        items: Tensor,
        segments: Segments,
        edges: Pair,
        transpose: Pair | None,
        places: Tensor | None,
        shift: Tensor | None,
    ) -> GraphBatch:
        """Put the parts together; `places` and `shift` lead to the edges, as in a plan."""
        edge_features, order = None, None
        if self.edge_features is not None and self.transpose_order is not None:
            assert places is not None
            assert shift is not None
            edge_features = dense(self.edge_features.index_select(0, places))
            # The edges of a graph stand at the same places in either list, so that the shift
            # that leads there and back is the same too.
            order = self.transpose_order.index_select(0, places) - shift
        return GraphBatch(
            x=x,
            y=self.y.index_select(0, items),
            segments=segments,
            adjacency=Adjacency(*edges, *(transpose or ()), transpose_order=order, validate=False),
            edge_features=edge_features,
        )


def dense(x: Tensor | OneHot) -> Tensor:
    """Features as a matrix, however they are kept."""
    return x.dense() if isinstance(x, OneHot) else x


def gather_edges(degree: Tensor, index: Tensor, nodes: Tensor, places: Tensor) -> Pair:
    """The CSR pair of some nodes, its ids as they are: `(nodes + 1,)` and `(edges,)`, new.

    `places` serves the transpose as well: a graph has as many edges by source as by target, so
    that they begin at the same place.
    """
    ptr = degree.new_zeros(nodes.shape[0] + 1)
    torch.cumsum(degree.index_select(0, nodes), 0, out=ptr[1:])
    return ptr, index.index_select(0, places)
