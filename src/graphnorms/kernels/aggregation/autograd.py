"""Where the aggregation meets autograd and `torch.library`; see `graphnorms.kernels.autograd`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.cpu import aggregate as cpu

_library = torch.library.Library("graphnorms", "FRAGMENT")
_library.define(
    "aggregate(Tensor x, Tensor ptr, Tensor index, Tensor? node_scale, float self_weight) -> Tensor"
)
_library.impl("aggregate", cpu.aggregate, "CPU")

_aggregate = torch.ops.graphnorms.aggregate.default


@torch.library.register_fake("graphnorms::aggregate", lib=_library)
def _(
    x: Tensor, ptr: Tensor, index: Tensor, node_scale: Tensor | None, self_weight: float
) -> Tensor:
    return x.new_empty(tuple(x.shape))


def aggregate(
    x: Tensor, adjacency: Adjacency, self_weight: float, node_scale: Tensor | None
) -> Tensor:
    """Run `aggregate` on the kernels."""
    y: Tensor = _Aggregate.apply(  # type: ignore[no-untyped-call]
        x, adjacency, self_weight, node_scale
    )
    return y


class _Aggregate(torch.autograd.Function):
    """`aggregate` by a kernel; its backward is the same kernel on the transposed edges."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, adjacency: Adjacency, self_weight: float, node_scale: Tensor | None
    ) -> Tensor:
        """Run the kernel."""
        ctx.adjacency, ctx.self_weight, ctx.node_scale = adjacency, self_weight, node_scale
        y: Tensor = _aggregate(x, adjacency.ptr, adjacency.index, node_scale, self_weight)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Aggregate along the reversed edges; as a Function again, so it can be differentiated."""
        transposed = _transposed(ctx.adjacency)
        grad_x = aggregate(grads[0], transposed, ctx.self_weight, ctx.node_scale)
        return grad_x, None, None, None


def _transposed(adjacency: Adjacency) -> Adjacency:
    if adjacency.symmetric:
        return adjacency
    return Adjacency(*adjacency.transpose, adjacency.ptr, adjacency.index, validate=False)
