"""The C++ kernels of the aggregation as functions of tensors that need not fit.

As in `graphnorms.kernels.cpu.normalize` the extension checks the tensors, and what does not fit is
copied or refused in words here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.aggregation.edges import Edges, Weights, check_alone
from graphnorms.kernels.cpu.extension import (
    check_index,
    features,
    kernels,
    parameter,
    rows_like,
    unreadable,
)
from graphnorms.kernels.point import accumulation_dtype


def aggregate(x: Tensor, edges: Edges, weights: Weights) -> Tensor:
    """Run the forward kernel."""
    run = kernels().aggregate
    threads = torch.get_num_threads()
    y = x.new_empty(tuple(x.shape))
    if not run(x, *edges, *weights, threads, y):
        x = features(x)
        if not run(x, *edges, *_fitting(x, edges, weights), threads, y):
            raise unreadable()
    return y


def aggregate_backward(
    grad_y: Tensor, x: Tensor, edges: Edges, weights: Weights, needs: list[bool]
) -> tuple[Tensor, Tensor]:
    """Run the backward kernel for edges that have weights or features.

    Args:
        edges: Those of the transpose.
        needs: Whether the gradient of x and that of the edges' features are asked for; that of
            their weights always is, for without it the forward kernel does.

    Returns:
        The gradients of x, and of the weights in the accumulation dtype or of the features; an
        empty tensor for one that was not asked for.
    """
    if (weights.edge_weight is None) == (weights.edge_features is None):
        raise ValueError("expected edge_weight or edge_features, one of the two")
    run = kernels().aggregate_backward
    threads = torch.get_num_threads()
    grad_x = x.new_empty(tuple(x.shape)) if needs[0] else None
    grads = _room(x, edges, weights, needs[1])
    if not run(grad_y, x, *edges, *weights, threads, grad_x, *grads):
        x = features(x)
        weights = _fitting(x, edges, weights)
        grads = _room(x, edges, weights, needs[1])
        grad_y = rows_like("grad_y", grad_y, x)
        if not run(grad_y, x, *edges, *weights, threads, grad_x, *grads):
            raise unreadable()
    grad_weight, grad_features = grads
    grad_edge = grad_features if grad_weight is None else grad_weight
    return (
        x.new_empty(0) if grad_x is None else grad_x,
        x.new_empty(0) if grad_edge is None else grad_edge,
    )


def _room(
    x: Tensor, edges: Edges, weights: Weights, needs_features: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Room for the gradients of the weights and of the features, of those that are given."""
    if weights.edge_weight is not None:
        return x.new_empty(weights.edge_weight.shape, dtype=accumulation_dtype(x.dtype)), None
    return None, x.new_empty((edges.ends.shape[0], x.shape[1])) if needs_features else None


def _fitting(x: Tensor, edges: Edges, weights: Weights) -> Weights:
    """The weights as the kernels take them, copied where strides or dtypes are others.

    Raises:
        ValueError: Something cannot be made to fit.
    """
    ptr, index, order = edges
    node_scale, edge_weight, edge_features, self_weight = weights
    rows, channels = x.shape
    check_index("ptr", ptr, rows + 1)
    check_index("index", index, None)
    number = index.shape[0]
    if order is not None:
        check_index("order", order, number)
    if edge_features is not None:
        check_alone(weights)
        edge_features = rows_like("edge_features", edge_features, x, (number, channels))
    dtype = accumulation_dtype(x.dtype)
    node_scale = parameter("node_scale", node_scale, (rows,), dtype)
    edge_weight = parameter("edge_weight", edge_weight, (number,), dtype)
    return Weights(node_scale, edge_weight, edge_features, self_weight)
