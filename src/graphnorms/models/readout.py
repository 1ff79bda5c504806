"""Readouts: a graph's features from those of its nodes."""

from __future__ import annotations

from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.segments import Segments


def readout(x: Tensor, segments: Segments, how: str) -> Tensor:
    """Sum, average or maximize the features over the nodes of each graph.

    A graph without nodes gives 0.

    Shapes: `x` `(nodes, channels)`, the result `(graphs, channels)`.

    Args:
        x: The features.
        segments: Which nodes belong to which graph.
        how: `"sum"`, `"mean"` or `"max"`.

    Raises:
        ValueError: `how` is none of them.
    """
    index = segments.index
    zeros = x.new_zeros((segments.num_segments, x.shape[1]))
    if how == "max":
        where = index.unsqueeze(1).expand_as(x)
        return zeros.scatter_reduce(0, where, x, "amax", include_self=False)
    if how not in ("sum", "mean"):
        raise unknown_name("readout", how, ("sum", "mean", "max"))
    total = zeros.index_add(0, index, x)
    if how == "sum":
        return total
    return total / segments.counts.clamp(min=1).to(x.dtype).unsqueeze(1)
