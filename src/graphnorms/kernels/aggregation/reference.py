"""Plain torch: the definition of the sum over neighbours.

As `graphnorms.kernels.reference`: any floating dtype, any device, twice differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.problem import accumulation_dtype


def aggregate(
    x: Tensor,
    adjacency: Adjacency,
    *,
    self_weight: float,
    node_scale: Tensor | None,
    edge_weight: Tensor | None,
    edge_features: Tensor | None,
) -> Tensor:
    """Sum over neighbours; see `graphnorms.kernels.aggregation.api.aggregate`."""
    dtype = accumulation_dtype(x.dtype)
    scaled = x.to(dtype)
    if node_scale is not None:
        scaled = scaled * node_scale.to(dtype).unsqueeze(1)
    messages = scaled.index_select(0, adjacency.index)  # (edges, channels)
    if edge_weight is not None:
        messages = messages * _at_positions(edge_weight.to(dtype), adjacency).unsqueeze(1)
    if edge_features is not None:
        messages = torch.relu(messages + _at_positions(edge_features.to(dtype), adjacency))
    y = torch.zeros_like(scaled).index_add(0, _targets(adjacency), messages)
    if self_weight:
        y = y + self_weight * scaled
    if node_scale is not None:
        y = y * node_scale.to(dtype).unsqueeze(1)
    return y.to(x.dtype)


def _targets(adjacency: Adjacency) -> Tensor:
    """The row of every position of `adjacency.index`, `(edges,)`."""
    # How many rows after the first begin there or before: unlike repeat_interleave of a known
    # size, this can be exported to ONNX.
    begins = adjacency.ptr[1:-1]
    counts = begins.new_zeros(adjacency.num_edges + 1)
    counts = counts.scatter_add(0, begins, torch.ones_like(begins))
    return counts[:-1].cumsum(0)


def _at_positions(quantity: Tensor, adjacency: Adjacency) -> Tensor:
    """A quantity of the edges in the order in which they stand in `adjacency.index`."""
    return quantity if adjacency.order is None else quantity.index_select(0, adjacency.order)
