"""One row per edge: the edges in the order of their targets, and what is summed over them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.models.readout import readout
from graphnorms.segments import Segments


@dataclass(frozen=True, slots=True)
class EdgeRows:
    """The edges of a batch in the order of their targets, as in `Adjacency.index`.

    Args:
        source, target: The nodes of each edge, `(edges,)`.
        by_target: The edges of each target as a segment.
        by_graph: The edges of each graph as a segment.
        order: The number of the edge at each position; `None` if they are numbered in this order.
    """

    source: Tensor
    target: Tensor
    by_target: Segments
    by_graph: Segments
    order: Tensor | None

    @classmethod
    def of(cls, adjacency: Adjacency, segments: Segments) -> EdgeRows:
        """Lay out the edges of a batch of graphs."""
        edges = adjacency.num_edges
        target = torch.repeat_interleave(adjacency.in_degree, output_size=edges)
        by_target = Segments(adjacency.ptr, None, edges, index=target)
        if segments.order is None:
            by_graph = Segments(adjacency.ptr[segments.ptr], None, edges)
        else:
            by_graph = Segments.from_batch(segments.index[target], segments.num_segments)
        return cls(adjacency.index, target, by_target, by_graph, adjacency.order)

    def sorted(self, x: Tensor) -> Tensor:
        """Bring rows in the order of the edges' numbers into that of their targets."""
        return x if self.order is None else x.index_select(0, self.order)

    def numbered(self, x: Tensor) -> Tensor:
        """Undo `sorted`."""
        return x if self.order is None else torch.empty_like(x).index_copy(0, self.order, x)

    def sums(self, x: Tensor) -> Tensor:
        """Sum the rows of the edges that end in each node, `(nodes, channels)`."""
        return readout(x, self.by_target, "sum")
