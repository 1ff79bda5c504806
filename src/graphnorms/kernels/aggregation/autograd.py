"""Autograd and `torch.library` for the aggregation; see `graphnorms.kernels.autograd`."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation import reference
from graphnorms.kernels.aggregation.operands import Edges, Weights
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
        return backend.aggregate(x, Edges(*rest[:3]), Weights(*rest[6:]))

    def aggregate_backward(grad_y: Tensor, x: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        *weights, needs = rest[6:]
        return backend.aggregate_backward(grad_y, x, Edges(*rest[3:6]), Weights(*weights), needs)

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


def aggregate(x: Tensor, adjacency: Adjacency, weights: Weights, backend: Backend | None) -> Tensor:
    """Run `aggregate` on the kernels of a backend, or as an operator if it is `None`."""
    edge = weights.edge
    if edge is not None and torch.is_grad_enabled() and (x.requires_grad or edge.requires_grad):
        # Computed here, because a compiled backward must not change the adjacency.
        _ = adjacency.transpose_order
    if backend is not None:
        return _apply(x, weights, _Along(adjacency, False, backend))
    return _as_operator(x, adjacency, weights, reverse=False)


def _as_operator(x: Tensor, adjacency: Adjacency, weights: Weights, *, reverse: bool) -> Tensor:
    numbered = weights.edge is not None
    edges = Edges.along(adjacency, reverse=reverse, numbered=numbered)
    transpose = Edges.along(adjacency, reverse=not reverse, numbered=numbered)
    y: Tensor = _aggregate(x, *edges, *transpose, *weights)
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
    weights = (node_scale, edge_weight, edge_features, ctx.self_weight)
    needs = [need_x, need_weight or need_features]
    grad_x, grad_edge = _aggregate_backward(grad_y, x, *edges, *weights, needs)
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
    weights = Weights(node_scale, edge_weight, edge_features, ctx.self_weight)
    of_grad_y, of_x, of_edge = reference.double_backward((u, p), grad_y, x, adjacency, weights)
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


class _Along(NamedTuple):
    """An adjacency, whether to sum along its transpose, and the backend."""

    adjacency: Adjacency
    reverse: bool
    backend: Backend


class _Aggregate(torch.autograd.Function):
    """`aggregate` by a kernel, along the edges or the reversed edges.

    If only x has a gradient, the sum is linear, and its backward is the same sum along the reversed
    edges: as a Function, so that it can be differentiated again. Nothing else uses the reversed
    edges.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        node_scale: Tensor | None,
        edge_weight: Tensor | None,
        edge_features: Tensor | None,
        self_weight: float,
        along: _Along,
    ) -> Tensor:
        """Run the forward kernel; x is saved only if the backward needs it."""
        linear = edge_features is None and not ctx.needs_input_grad[2]
        ctx.save_for_backward(None if linear else x, node_scale, edge_weight, edge_features)
        ctx.self_weight, ctx.along = self_weight, along
        weights = Weights(node_scale, edge_weight, edge_features, self_weight)
        adjacency, reverse, backend = along
        edges = Edges.along(adjacency, reverse=reverse, numbered=weights.edge is not None)
        return backend.aggregate(x, edges, weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Sum along the reversed edges, or run the backward kernel."""
        (grad_y,) = grads
        x, node_scale, edge_weight, edge_features = ctx.saved_tensors
        weights = Weights(node_scale, edge_weight, edge_features, ctx.self_weight)
        if x is None:
            return _backward_of_sum(grad_y, weights, ctx.along), None, None, None, None, None
        adjacency, _, backend = ctx.along
        transformed = is_transformed()
        need_x, _, need_weight, need_features, *_ = ctx.needs_input_grad
        differentiable = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        interpreted = backend is TRITON and x.is_cpu
        found: Any
        against = Edges.along(adjacency, reverse=True, numbered=True)
        needs = [need_x, need_weight or need_features]
        if transformed or (interpreted and differentiable):
            found = reference.backward(grad_y, x, adjacency, weights)
        elif is_plain(grad_y) and not differentiable:
            found = backend.aggregate_backward(grad_y, x, against, weights, needs)
        else:
            edges = Edges.along(adjacency, reverse=False, numbered=True)
            found = _aggregate_backward(grad_y, x, *edges, *against, *weights, needs)
        grad_x, grad_edge = found
        return (
            grad_x if need_x else None,
            None,
            grad_edge.to(edge_weight.dtype) if need_weight else None,
            grad_edge if need_features else None,
            None,
            None,
        )


def _backward_of_sum(grad_y: Tensor, weights: Weights, along: _Along) -> Tensor:
    """Sum along the reversed edges; weights of edges have no gradient."""
    adjacency, reverse, backend = along
    if weights.edge_weight is not None:
        weights = weights._replace(edge_weight=weights.edge_weight.detach())
    if is_transformed():
        if reverse:
            return reference.aggregate(grad_y, adjacency, weights)
        # The sum is linear, so any x will do.
        return reference.backward(grad_y, grad_y, adjacency, weights)[0]
    if is_plain(grad_y):
        return _apply(grad_y, weights, _Along(adjacency, not reverse, backend))
    return _as_operator(grad_y, adjacency, weights, reverse=not reverse)


def _apply(x: Tensor, weights: Weights, along: _Along) -> Tensor:
    y: Tensor = _Aggregate.apply(x, *weights, along)  # type: ignore[no-untyped-call]
    return y
