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
) -> Tensor:
    """Sum over neighbours; see `graphnorms.kernels.aggregation.api.aggregate`."""
    dtype = accumulation_dtype(x.dtype)
    scaled = x.to(dtype)
    if node_scale is not None:
        scaled = scaled * node_scale.to(dtype).unsqueeze(1)
    targets = torch.repeat_interleave(
        torch.arange(adjacency.num_nodes, device=x.device),
        adjacency.in_degree,
        output_size=adjacency.num_edges,
    )
    messages = scaled.index_select(0, adjacency.index)
    y = torch.zeros_like(scaled).index_add(0, targets, messages)
    if self_weight:
        y = y + self_weight * scaled
    if node_scale is not None:
        y = y * node_scale.to(dtype).unsqueeze(1)
    return y.to(x.dtype)
