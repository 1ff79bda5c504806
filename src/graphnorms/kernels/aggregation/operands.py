"""The edges and weights of a sum over neighbours, as the backends take them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from graphnorms.adjacency import Adjacency


class Weights(NamedTuple):
    """The weights of a sum over neighbours; see `graphnorms.aggregate`.

    Args:
        node_scale: The diagonal of D, `(rows,)`; `None` for 1.
        edge_weight: The weight of each edge, `(edges,)`; `None` for 1.
        edge_features: Added to the features of the source by GINE, `(edges, channels)`.
        self_weight: The weight of the row itself.
    """

    node_scale: Tensor | None = None
    edge_weight: Tensor | None = None
    edge_features: Tensor | None = None
    self_weight: float = 0.0

    @property
    def edge(self) -> Tensor | None:
        """The weights or the features of the edges, if given."""
        return self.edge_weight if self.edge_features is None else self.edge_features


class Edges(NamedTuple):
    """The edges, grouped by the row that sums over them.

    Args:
        ptr: Offsets into `ends`, `(rows + 1,)`.
        ends: The row at the other end of each edge, `(edges,)`.
        order: The edge at each position of `ends`, `(edges,)`, in the numbering of `edge_weight`
            and `edge_features`; `None` if the numbering is that of `ends`.
    """

    ptr: Tensor
    ends: Tensor
    order: Tensor | None = None

    @classmethod
    def along(cls, adjacency: Adjacency, *, reverse: bool, numbered: bool) -> Edges:
        """Return the edges of an adjacency or of its transpose, with their order if needed."""
        if reverse:
            return cls(*adjacency.transpose, adjacency.transpose_order if numbered else None)
        return cls(adjacency.ptr, adjacency.index, adjacency.order if numbered else None)


def check_alone(weights: Weights) -> None:
    """Refuse features of edges together with weights, which the kernels cannot combine."""
    if weights.node_scale is not None or weights.edge_weight is not None:
        raise ValueError("edge_features is given with node_scale or edge_weight; give one of them")
