"""The edges and weights of a sum over neighbours, as every backend takes them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from graphnorms.adjacency import Adjacency


class Weights(NamedTuple):
    """The weights of a sum over neighbours; see `graphnorms.aggregate`.

    Args:
        node_scale: The diagonal of D, `(rows,)`; `None` for 1.
        edge_weight: The weight of each edge, `(edges,)`; `None` for 1.
        edge_features: What GINE adds to the features of the source, `(edges, channels)`.
        self_weight: The weight of the row itself.
    """

    node_scale: Tensor | None = None
    edge_weight: Tensor | None = None
    edge_features: Tensor | None = None
    self_weight: float = 0.0

    @property
    def edge(self) -> Tensor | None:
        """The weights or the features of the edges, whichever there are."""
        return self.edge_weight if self.edge_features is None else self.edge_features


class Edges(NamedTuple):
    """The edges by the row that sums over them.

    Args:
        ptr: Offsets into `ends`, `(rows + 1,)`.
        ends: The row at the other end of each edge, `(edges,)`.
        order: The edge at each position of `ends`, `(edges,)`, as `edge_weight` and
            `edge_features` number them; `None` where they are the same.
    """

    ptr: Tensor
    ends: Tensor
    order: Tensor | None = None

    @classmethod
    def along(cls, adjacency: Adjacency, *, reverse: bool, numbered: bool) -> Edges:
        """The edges of an adjacency or of its transpose, with their numbers if needed."""
        if reverse:
            return cls(*adjacency.transpose, adjacency.transpose_order if numbered else None)
        return cls(adjacency.ptr, adjacency.index, adjacency.order if numbered else None)


def check_alone(weights: Weights) -> None:
    """Refuse features of edges beside weights, which the kernels cannot join."""
    if weights.node_scale is not None or weights.edge_weight is not None:
        raise ValueError("edge_features stand alone, without node_scale and edge_weight")
