"""The C++ kernels of the aggregation, called with any tensors.

As in `graphnorms.kernels.cpu.normalize`, the extension checks the tensors; tensors that do not fit
are copied here, or refused with an error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.aggregation.operands import Edges, Weights, check_alone
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
    """Run the backward kernel for edges with weights or features.

    Args:
        edges: The edges of the transpose.
        needs: Whether the gradients of x and of the edge features are needed. That of edge weights
            always is: without it the forward kernel suffices.

    Returns:
        The gradients of x, and of the weights (in the accumulation dtype) or features; an empty
        tensor if not needed.
    """
    if (weights.edge_weight is None) == (weights.edge_features is None):
        raise ValueError("expected either edge_weight or edge_features")
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
    """Allocate the gradients of the weights and features that are given."""
    if weights.edge_weight is not None:
        return x.new_empty(weights.edge_weight.shape, dtype=accumulation_dtype(x.dtype)), None
    return None, x.new_empty((edges.ends.shape[0], x.shape[1])) if needs_features else None


def _fitting(x: Tensor, edges: Edges, weights: Weights) -> Weights:
    """Convert the weights to the strides and dtypes of the kernels, copying where needed.

    Raises:
        ValueError: A tensor cannot be converted.
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
