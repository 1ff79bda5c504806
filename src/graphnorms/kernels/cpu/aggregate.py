"""The C++ kernels of the aggregation as functions of tensors that need not fit.

As in `graphnorms.kernels.cpu.normalize` the extension checks the tensors, and what does not fit is
copied or refused in words here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import (
    check_index,
    features,
    kernels,
    parameter,
    rows_like,
    unreadable,
)
from graphnorms.kernels.point import accumulation_dtype


def aggregate(
    x: Tensor,
    ptr: Tensor,
    index: Tensor,
    order: Tensor | None,
    node_scale: Tensor | None,
    edge_weight: Tensor | None,
    edge_features: Tensor | None,
    self_weight: float,
) -> Tensor:
    """Run the forward kernel.

    Args:
        order: The edge at each position of `index`, as numbered in `edge_weight` and
            `edge_features`; `None` where they are the same.
    """
    run = kernels().aggregate
    choices = (self_weight, torch.get_num_threads())
    edges = _Edges(ptr, index, order, node_scale, edge_weight, edge_features)
    y = x.new_empty(tuple(x.shape))
    if not run(x, *edges, *choices, y):
        x = features(x)
        if not run(x, *_fitting(x, edges), *choices, y):
            raise unreadable()
    return y


def aggregate_backward(
    grad_y: Tensor,
    x: Tensor,
    ptr: Tensor,
    index: Tensor,
    order: Tensor | None,
    node_scale: Tensor | None,
    edge_weight: Tensor | None,
    edge_features: Tensor | None,
    self_weight: float,
    needs: list[bool],
) -> tuple[Tensor, Tensor]:
    """Run the backward kernel for edges that have weights or features.

    Args:
        ptr, index, order: Those of the transpose.
        needs: Whether the gradient of x and that of the edges' features are asked for; that of
            their weights always is, for without it the forward kernel does.

    Returns:
        The gradients of x, and of the weights in the accumulation dtype or of the features; an
        empty tensor for one that was not asked for.
    """
    if (edge_weight is None) == (edge_features is None):
        raise ValueError("expected edge_weight or edge_features, one of the two")
    run = kernels().aggregate_backward
    choices = (self_weight, torch.get_num_threads())
    edges = _Edges(ptr, index, order, node_scale, edge_weight, edge_features)
    grad_x = x.new_empty(tuple(x.shape)) if needs[0] else None
    grads = _room(x, edges, needs[1])
    if not run(grad_y, x, *edges, *choices, grad_x, *grads):
        x = features(x)
        edges = _fitting(x, edges)
        grads = _room(x, edges, needs[1])
        if not run(rows_like("grad_y", grad_y, x), x, *edges, *choices, grad_x, *grads):
            raise unreadable()
    grad_weight, grad_features = grads
    grad_edge = grad_features if grad_weight is None else grad_weight
    return (
        x.new_empty(0) if grad_x is None else grad_x,
        x.new_empty(0) if grad_edge is None else grad_edge,
    )


class _Edges(NamedTuple):
    """The tensors that forward and backward have in common, in the order of the extension."""

    ptr: Tensor
    ids: Tensor
    order: Tensor | None
    node_scale: Tensor | None
    edge_weight: Tensor | None
    edge_features: Tensor | None


def _room(x: Tensor, edges: _Edges, needs_features: bool) -> tuple[Tensor | None, Tensor | None]:
    """Room for the gradients of the weights and of the features, of those that are given."""
    if edges.edge_weight is not None:
        return x.new_empty(edges.edge_weight.shape, dtype=accumulation_dtype(x.dtype)), None
    return None, x.new_empty((edges.ids.shape[0], x.shape[1])) if needs_features else None


def _fitting(x: Tensor, edges: _Edges) -> _Edges:
    """What the kernels take, copied where strides or dtypes are others.

    Raises:
        ValueError: Something cannot be made to fit.
    """
    ptr, index, order, node_scale, edge_weight, edge_features = edges
    rows, channels = x.shape
    check_index("ptr", ptr, rows + 1)
    check_index("index", index, None)
    number = index.shape[0]
    if order is not None:
        check_index("order", order, number)
    if edge_features is not None:
        if node_scale is not None or edge_weight is not None:
            raise ValueError("edge_features stand alone, without node_scale and edge_weight")
        edge_features = rows_like("edge_features", edge_features, x, (number, channels))
    dtype = accumulation_dtype(x.dtype)
    node_scale = parameter("node_scale", node_scale, (rows,), dtype)
    edge_weight = parameter("edge_weight", edge_weight, (number,), dtype)
    return _Edges(ptr, index, order, node_scale, edge_weight, edge_features)
