"""Where the aggregation meets autograd and `torch.library`; see `graphnorms.kernels.autograd`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation import reference
from graphnorms.kernels.backend import KERNELS, TRITON, Backend
from graphnorms.kernels.point import accumulation_dtype
from graphnorms.tracing import is_plain, is_transformed

_EDGES = "Tensor ptr, Tensor index, Tensor? order, "
_TRANSPOSE = "Tensor transpose_ptr, Tensor transpose_index, Tensor? transpose_order, "
_WEIGHTS = "Tensor? node_scale, Tensor? edge_weight, Tensor? edge_features, float self_weight"
_library = torch.library.Library("graphnorms", "FRAGMENT")
_library.define(f"aggregate(Tensor x, {_EDGES}{_TRANSPOSE}{_WEIGHTS}) -> Tensor")
_library.define(
    f"aggregate_backward(Tensor grad_y, Tensor x, {_EDGES}{_TRANSPOSE}{_WEIGHTS}, bool[] needs) "
    "-> (Tensor, Tensor)"
)


def _register(backend: Backend) -> None:
    def aggregate(x: Tensor, *rest: Any) -> Tensor:
        return backend.aggregate(x, *rest[:3], *rest[6:])

    def aggregate_backward(grad_y: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        return backend.aggregate_backward(grad_y, x, *rest[3:])

    _library.impl("aggregate", aggregate, backend.device)
    _library.impl("aggregate_backward", aggregate_backward, backend.device)


for _backend in KERNELS.values():
    _register(_backend)
_aggregate = torch.ops.graphnorms.aggregate.default
_aggregate_backward = torch.ops.graphnorms.aggregate_backward.default


@torch.library.register_fake("graphnorms::aggregate", lib=_library)
def _(x: Tensor, *rest: Any) -> Tensor:
    return x.new_empty(tuple(x.shape))


@torch.library.register_fake("graphnorms::aggregate_backward", lib=_library)
def _(grad_y: Tensor, x: Tensor, ptr: Tensor, index: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    edge_weight, needs = rest[5], rest[8]
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
    backend: Backend | None,
) -> Tensor:
    """Run `aggregate` on the kernels of a backend, or as an operator where that is `None`."""
    edge = edge_weight if edge_features is None else edge_features
    if edge is not None and torch.is_grad_enabled() and (x.requires_grad or edge.requires_grad):
        # Worked out here, because a compiled backward may not change the adjacency.
        _ = adjacency.transpose_order
    y: Tensor
    if backend is not None:
        y = _Aggregate.apply(  # type: ignore[no-untyped-call]
            x, edge_weight, edge_features, node_scale, adjacency, self_weight, False, backend
        )
        return y
    numbered = edge is not None
    y = _aggregate(
        x, *_along(adjacency, False, numbered), *_along(adjacency, True, numbered), node_scale,
        edge_weight, edge_features, self_weight,
    )  # fmt: skip
    return y


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *edges, node_scale, edge_weight, edge_features, self_weight = inputs
    needs_weight = ctx.needs_input_grad[8]
    linear = edge_features is None and not needs_weight
    ctx.save_for_backward(None if linear else x, *edges, node_scale, edge_weight, edge_features)
    ctx.self_weight = self_weight


def _formula(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
    x, *edges, node_scale, edge_weight, edge_features = ctx.saved_tensors
    none = (None,) * 7
    if x is None:
        # The same sum along the reversed edges.
        grad_x = _aggregate(
            grad_y, *edges[3:], *edges[:3], node_scale, edge_weight, None, ctx.self_weight
        )
        return grad_x, *none, None, None, None
    need_x, need_weight, need_features = (ctx.needs_input_grad[i] for i in (0, 8, 9))
    grad_x, grad_edge = _aggregate_backward(
        grad_y, x, *edges, node_scale, edge_weight, edge_features, ctx.self_weight,
        [need_x, need_weight or need_features],
    )  # fmt: skip
    return (
        grad_x if need_x else None,
        *none,
        grad_edge.to(edge_weight.dtype) if need_weight else None,
        grad_edge if need_features else None,
        None,
    )


def _backward_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, self_weight, needs = inputs
    ctx.save_for_backward(*tensors)
    ctx.self_weight, ctx.needs = self_weight, list(needs)
    ctx.set_materialize_grads(False)


def _backward_formula(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    grad_y, x, *edges, node_scale, edge_weight, edge_features = ctx.saved_tensors
    ptr, index, order, *transpose, transpose_order = edges
    adjacency = Adjacency(
        ptr, index, *transpose, order=order, transpose_order=transpose_order, validate=False
    )
    u, p = (c if needed else None for c, needed in zip(cotangents, ctx.needs, strict=True))
    of_grad_y, of_x, of_edge = reference.double_backward(
        (u, p), grad_y, x, adjacency, self_weight=ctx.self_weight, node_scale=node_scale,
        edge_weight=edge_weight, edge_features=edge_features,
    )  # fmt: skip
    need_grad_y, need_x, need_weight, need_features = (
        ctx.needs_input_grad[i] for i in (0, 1, 9, 10)
    )
    return (
        of_grad_y if need_grad_y else None,
        of_x if need_x else None,
        *(None,) * 7,
        of_edge.to(edge_weight.dtype) if need_weight and of_edge is not None else None,
        of_edge if need_features else None,
        None,
        None,
    )


for _name, _gradient, _keep in (
    ("aggregate", _formula, _setup),
    ("aggregate_backward", _backward_formula, _backward_setup),
):
    torch.library.register_autograd(
        f"graphnorms::{_name}", _gradient, setup_context=_keep, lib=_library
    )


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
        backend: Backend,
    ) -> Tensor:  # fmt: skip
        """Run the forward kernel; x is kept only where the backward needs it."""
        _, need_weight, *_ = ctx.needs_input_grad
        linear = edge_features is None and not need_weight
        ctx.save_for_backward(None if linear else x, edge_weight, edge_features, node_scale)
        ctx.adjacency, ctx.self_weight, ctx.reverse = adjacency, self_weight, reverse
        ctx.backend = backend
        numbered = edge_weight is not None or edge_features is not None
        y: Tensor = backend.aggregate(
            x, *_along(adjacency, reverse, numbered), node_scale, edge_weight, edge_features,
            self_weight,
        )  # fmt: skip
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Sum along the reversed edges, or run the backward kernel."""
        (grad_y,) = grads
        x, edge_weight, edge_features, node_scale = ctx.saved_tensors
        adjacency, self_weight, backend = ctx.adjacency, ctx.self_weight, ctx.backend
        transformed = is_transformed()
        shared = {"self_weight": self_weight, "node_scale": node_scale}
        if x is None:
            weight = None if edge_weight is None else edge_weight.detach()
            if not transformed:
                grad_x = _sum(
                    grad_y, adjacency, not ctx.reverse, node_scale, weight, self_weight, backend
                )
            elif ctx.reverse:
                grad_x = reference.aggregate(grad_y, adjacency, **shared, edge_weight=weight)
            else:
                # The sum is linear: it does not matter which x it was of.
                grad_x, _ = reference.backward(
                    grad_y, grad_y, adjacency, **shared, edge_weight=weight
                )
            return grad_x, *(None,) * 7
        need_x, need_weight, need_features, *_ = ctx.needs_input_grad
        differentiable = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        interpreted = backend is TRITON and x.is_cpu
        found: Any
        against = _along(adjacency, True, True)
        rest = (node_scale, edge_weight, edge_features, self_weight)
        needs = [need_x, need_weight or need_features]
        if transformed or (interpreted and differentiable):
            found = reference.backward(
                grad_y, x, adjacency, **shared, edge_weight=edge_weight,
                edge_features=edge_features,
            )  # fmt: skip
        elif is_plain(grad_y) and not differentiable:
            found = backend.aggregate_backward(grad_y, x, *against, *rest, needs)
        else:
            along = _along(adjacency, False, True)
            found = _aggregate_backward(grad_y, x, *along, *against, *rest, needs)
        grad_x, grad_edge = found
        return (
            grad_x if need_x else None,
            grad_edge.to(edge_weight.dtype) if need_weight else None,
            grad_edge if need_features else None,
            None, None, None, None, None,
        )  # fmt: skip


def _sum(
    x: Tensor, adjacency: Adjacency, reverse: bool, node_scale: Tensor | None,
    edge_weight: Tensor | None, self_weight: float, backend: Backend,
) -> Tensor:  # fmt: skip
    """Sum linearly along the edges or against them, by what serves the call."""
    y: Tensor
    if is_plain(x):
        y = _Aggregate.apply(  # type: ignore[no-untyped-call]
            x, edge_weight, None, node_scale, adjacency, self_weight, reverse, backend
        )
        return y
    numbered = edge_weight is not None
    y = _aggregate(
        x, *_along(adjacency, reverse, numbered), *_along(adjacency, not reverse, numbered),
        node_scale, edge_weight, None, self_weight,
    )  # fmt: skip
    return y


def _along(
    adjacency: Adjacency, reverse: bool, numbered: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The CSR pair of the edges or of the transpose, and the numbers of its edges if needed."""
    if reverse:
        return *adjacency.transpose, adjacency.transpose_order if numbered else None
    return adjacency.ptr, adjacency.index, adjacency.order if numbered else None
