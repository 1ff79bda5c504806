"""Where the aggregation meets autograd and `torch.library`; see `graphnorms.kernels.autograd`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation import reference
from graphnorms.kernels.calls import runs_directly
from graphnorms.kernels.cpu import aggregate as cpu
from graphnorms.kernels.problem import accumulation_dtype
from graphnorms.kernels.triton import aggregate as triton

_library = torch.library.Library("graphnorms", "FRAGMENT")
_library.define(
    "aggregate(Tensor x, Tensor ptr, Tensor index, Tensor? order, Tensor? node_scale, "
    "Tensor? edge_weight, Tensor? edge_features, float self_weight) -> Tensor"
)
_library.define(
    "aggregate_backward(Tensor grad_y, Tensor x, Tensor ptr, Tensor index, Tensor? order, "
    "Tensor? node_scale, Tensor? edge_weight, Tensor? edge_features, float self_weight, "
    "bool[] needs) -> (Tensor, Tensor)"
)
_library.impl("aggregate", cpu.aggregate, "CPU")
_library.impl("aggregate_backward", cpu.aggregate_backward, "CPU")
_library.impl("aggregate", triton.aggregate, "CUDA")
_library.impl("aggregate_backward", triton.aggregate_backward, "CUDA")

_aggregate = torch.ops.graphnorms.aggregate.default
_aggregate_backward = torch.ops.graphnorms.aggregate_backward.default


@torch.library.register_fake("graphnorms::aggregate", lib=_library)
def _(
    x: Tensor, ptr: Tensor, index: Tensor, order: Tensor | None, node_scale: Tensor | None,
    edge_weight: Tensor | None, edge_features: Tensor | None, self_weight: float,
) -> Tensor:  # fmt: skip
    return x.new_empty(tuple(x.shape))


@torch.library.register_fake("graphnorms::aggregate_backward", lib=_library)
def _(
    grad_y: Tensor, x: Tensor, ptr: Tensor, index: Tensor, order: Tensor | None,
    node_scale: Tensor | None, edge_weight: Tensor | None, edge_features: Tensor | None,
    self_weight: float, needs: list[bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    edges, channels = index.shape[0], x.shape[1]
    if edge_weight is not None:
        grad_edge = x.new_empty((edges,), dtype=accumulation_dtype(x.dtype))
    else:
        grad_edge = x.new_empty((edges, channels) if needs[1] else (0,))
    return x.new_empty(tuple(x.shape) if needs[0] else (0,)), grad_edge


def aggregate(
    x: Tensor,
    adjacency: Adjacency,
    *,
    self_weight: float,
    node_scale: Tensor | None,
    edge_weight: Tensor | None,
    edge_features: Tensor | None,
    interpreted: bool = False,
) -> Tensor:
    """Run `aggregate` on the kernels; for `interpreted` see `graphnorms.kernels.autograd`."""
    edge = edge_weight if edge_features is None else edge_features
    if edge is not None and torch.is_grad_enabled() and (x.requires_grad or edge.requires_grad):
        # Worked out here, because a compiled backward may not change the adjacency.
        _ = adjacency.transpose_order
    y: Tensor = _Aggregate.apply(  # type: ignore[no-untyped-call]
        x, edge_weight, edge_features, node_scale, adjacency, self_weight, False, interpreted
    )
    return y


class _Aggregate(torch.autograd.Function):
    """`aggregate` by a kernel, along the edges or against them.

    Where x alone has a gradient the sum is linear, and its backward the same sum along the
    reversed edges: as a Function again, so that it can be differentiated again. Nothing else
    ever runs against the edges.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, edge_weight: Tensor | None, edge_features: Tensor | None,
        node_scale: Tensor | None, adjacency: Adjacency, self_weight: float, reverse: bool,
        interpreted: bool,
    ) -> Tensor:  # fmt: skip
        """Run the forward kernel; x is kept only where the backward needs it."""
        _, need_weight, *_ = ctx.needs_input_grad
        linear = edge_features is None and not need_weight
        ctx.save_for_backward(None if linear else x, edge_weight, edge_features, node_scale)
        ctx.adjacency, ctx.self_weight, ctx.reverse = adjacency, self_weight, reverse
        ctx.interpreted = interpreted
        run: Any = cpu.aggregate if runs_directly(x) else _aggregate
        if interpreted:
            run = triton.aggregate
        edges = _along(adjacency, reverse, edge_weight is not None or edge_features is not None)
        y: Tensor = run(x, *edges, node_scale, edge_weight, edge_features, self_weight)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Sum along the reversed edges, or replay the reference for a second derivative."""
        (grad_y,) = grads
        x, edge_weight, edge_features, node_scale = ctx.saved_tensors
        adjacency, self_weight, reverse = ctx.adjacency, ctx.self_weight, ctx.reverse
        if x is None:
            weight = None if edge_weight is None else edge_weight.detach()
            grad_x = _Aggregate.apply(  # type: ignore[no-untyped-call]
                grad_y, weight, None, node_scale, adjacency, self_weight, not reverse,
                ctx.interpreted,
            )  # fmt: skip
            return grad_x, *(None,) * 7
        need_x, need_weight, need_features, *_ = ctx.needs_input_grad
        if not torch.compiler.is_compiling() and (
            torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()
        ):
            needs = [need_x, need_weight, need_features]
            inputs = (x, edge_weight, edge_features)
            found = _replayed_backward(inputs, needs, adjacency, node_scale, self_weight, grad_y)
            return (*found, *(None,) * 5)
        run: Any = cpu.aggregate_backward if runs_directly(grad_y) else _aggregate_backward
        if ctx.interpreted:
            run = triton.aggregate_backward
        grad_x, grad_edge = run(
            grad_y, x, *_along(adjacency, True, True), node_scale, edge_weight,
            edge_features, self_weight, [need_x, need_weight or need_features],
        )  # fmt: skip
        return (
            grad_x if need_x else None,
            grad_edge.to(edge_weight.dtype) if need_weight else None,
            grad_edge if need_features else None,
            None, None, None, None, None,
        )  # fmt: skip


def _along(
    adjacency: Adjacency, reverse: bool, numbered: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The CSR pair of the edges or of the transpose, and the numbers of its edges if needed."""
    if reverse:
        return *adjacency.transpose, adjacency.transpose_order if numbered else None
    return adjacency.ptr, adjacency.index, adjacency.order if numbered else None


def _replayed_backward(
    inputs: tuple[Tensor | None, ...],
    needs: list[bool],
    adjacency: Adjacency,
    node_scale: Tensor | None,
    self_weight: float,
    grad_y: Tensor,
) -> list[Tensor | None]:
    """The gradients as differentiable functions of the inputs and of grad_y."""
    x, edge_weight, edge_features = inputs
    assert x is not None
    with torch.enable_grad():
        y = reference.aggregate(
            x, adjacency, self_weight=self_weight, node_scale=node_scale,
            edge_weight=edge_weight, edge_features=edge_features,
        )  # fmt: skip
        asked = {i: tensor for i, tensor in enumerate(inputs) if tensor is not None and needs[i]}
        found = torch.autograd.grad(y, list(asked.values()), grad_y, create_graph=True)
    grads: list[Tensor | None] = [None] * 3
    for i, grad in zip(asked, found, strict=True):
        grads[i] = grad
    return grads
