"""Readouts: pooling of the nodes of each graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.segments import Segments


def readout(x: Tensor, segments: Segments, how: str) -> Tensor:
    """Sum, average or maximize the features over the nodes of each graph.

    A graph without nodes gives 0. The result is deterministic, on a GPU if the nodes are sorted by
    graph, as in the batches of a `GraphSet`.

    Shapes: `x` `(nodes, channels)`, the result `(graphs, channels)`.

    Args:
        x: The features.
        segments: The graphs of the nodes.
        how: `"sum"`, `"mean"` or `"max"`.

    Raises:
        ValueError: `how` is unknown.
    """
    zeros = x.new_zeros((segments.num_segments, x.shape[1]))
    if how == "max":
        where = segments.index.unsqueeze(1).expand_as(x)
        return zeros.scatter_reduce(0, where, x, "amax", include_self=False)
    if how not in ("sum", "mean"):
        raise unknown_name("readout", how, ("sum", "mean", "max"))
    total: Tensor
    if x.is_cuda and segments.order is None:
        total = sum_in_order(x, segments.ptr, segments.index)
    else:
        total = zeros.index_add(0, segments.index, x)
    if how == "sum":
        return total
    return total / segments.counts.clamp(min=1).to(x.dtype).unsqueeze(1)


class _SumInOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        # "unsafe" skips the check of the offsets, which would synchronize.
        return torch.segment_reduce(x, "sum", offsets=ptr, axis=0, unsafe=True, initial=0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return grads[0].index_select(0, index), None, None


def sum_in_order(x: Tensor, ptr: Tensor, index: Tensor) -> Tensor:
    """Sum the rows of each segment in order, unlike the atomic `index_add` on a GPU.

    Args:
        x: The rows, sorted by segment.
        ptr, index: Those of `Segments`.
    """
    apply: Any = _SumInOrder.apply
    total: Tensor = apply(x, ptr, index)
    return total
