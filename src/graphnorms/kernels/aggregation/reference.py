"""Plain torch: the definition of the sum over neighbours.

Like `graphnorms.kernels.reference`: any floating dtype, any device, twice differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.aggregation.operands import Weights
from graphnorms.kernels.point import accumulation_dtype


def aggregate(
    x: Tensor,
    adjacency: Adjacency,
    weights: Weights,
) -> Tensor:
    """Sum over neighbours; see `graphnorms.kernels.aggregation.neighbour_sum.aggregate`."""
    node_scale, edge_weight, edge_features, self_weight = weights
    dtype = accumulation_dtype(x.dtype)
    scaled = _scaled(x.to(dtype), node_scale)
    messages = scaled.index_select(0, adjacency.index)  # (edges, channels)
    if edge_weight is not None:
        messages = messages * _at_positions(edge_weight.to(dtype), adjacency).unsqueeze(1)
    if edge_features is not None:
        messages = torch.relu(messages + _at_positions(edge_features.to(dtype), adjacency))
    y = torch.zeros_like(scaled).index_add(0, _targets(adjacency), messages)
    if self_weight:
        y = y + self_weight * scaled
    return _scaled(y, node_scale).to(x.dtype)


def backward(
    grad_y: Tensor,
    x: Tensor,
    adjacency: Adjacency,
    weights: Weights,
) -> tuple[Tensor, Tensor | None]:
    """Compute equations (10) and (12) of docs/maths.md.

    Shapes: `grad_y` and `x` `(nodes, channels)`.

    Returns:
        The gradients of x and of the edge weights (in the accumulation dtype) or edge features.
    """
    node_scale, edge_weight, edge_features, self_weight = weights
    dtype = accumulation_dtype(x.dtype)
    source = adjacency.index
    scaled = _scaled(grad_y.to(dtype), node_scale)
    messages = scaled.index_select(0, _targets(adjacency))  # (edges, channels)
    grad_edge = None
    if edge_weight is not None:
        sent = _scaled(x.to(dtype), node_scale).index_select(0, source)
        grad_edge = _by_edge((messages * sent).sum(1), adjacency)
        messages = messages * _at_positions(edge_weight.to(dtype), adjacency).unsqueeze(1)
    if edge_features is not None:
        messages = torch.where(_passed(x, adjacency, edge_features), messages, 0)
        grad_edge = _by_edge(messages.to(edge_features.dtype), adjacency)
    grad_x = self_weight * scaled
    grad_x = _scaled(grad_x.index_add(0, source, messages), node_scale)
    return grad_x.to(x.dtype), grad_edge


def double_backward(
    cotangents: tuple[Tensor | None, Tensor | None],
    grad_y: Tensor,
    x: Tensor,
    adjacency: Adjacency,
    weights: Weights,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Compute the gradients of `backward`, which is linear in each of its tensors.

    With edge features it is linear in grad_y and piecewise constant in the rest.

    Shapes: `grad_y` and `x` `(nodes, channels)`; the cotangents have the shapes of the gradients.

    Args:
        cotangents: Cotangents of the gradients of x and of the edges; `None` for 0.
        grad_y, x, adjacency, weights: The arguments of `backward`.

    Returns:
        The gradients of grad_y, x, and the edge weights or features.
    """
    u, p = cotangents
    _, edge_weight, edge_features, self_weight = weights
    of_grad_y, of_x = torch.zeros_like(grad_y), torch.zeros_like(x)
    if edge_features is not None:
        dtype = accumulation_dtype(x.dtype)
        messages = torch.zeros_like(edge_features, dtype=dtype)
        if p is not None:
            messages = p.to(dtype)
        messages = _at_positions(messages, adjacency)
        if u is not None:
            messages = messages + u.to(dtype).index_select(0, adjacency.index)
            of_grad_y = self_weight * u
        messages = torch.where(_passed(x, adjacency, edge_features), messages, 0)
        total = of_grad_y.to(dtype).index_add(0, _targets(adjacency), messages)
        return total.to(grad_y.dtype), of_x, torch.zeros_like(edge_features)
    assert edge_weight is not None
    of_weight: Tensor | None = torch.zeros_like(edge_weight)
    if u is not None:
        of_grad_y = of_grad_y + aggregate(u, adjacency, weights)
        _, of_weight = backward(grad_y, u, adjacency, weights._replace(self_weight=0.0))
    if p is not None:
        along = weights._replace(edge_weight=p, self_weight=0.0)
        of_grad_y = of_grad_y + aggregate(x, adjacency, along)
        of_x, _ = backward(grad_y, x, adjacency, along)
    return of_grad_y, of_x, of_weight


def _scaled(x: Tensor, node_scale: Tensor | None) -> Tensor:
    return x if node_scale is None else x * node_scale.to(x.dtype).unsqueeze(1)


def _passed(x: Tensor, adjacency: Adjacency, edge_features: Tensor) -> Tensor:
    """Return where the messages of GINE are positive, `(edges, channels)`."""
    dtype = accumulation_dtype(x.dtype)
    messages = x.to(dtype).index_select(0, adjacency.index)
    return messages + _at_positions(edge_features.to(dtype), adjacency) > 0


def _by_edge(quantity: Tensor, adjacency: Adjacency) -> Tensor:
    """Reorder from the order of `adjacency.index` to that of the edges; inverts `_at_positions`."""
    if adjacency.order is None:
        return quantity
    return torch.empty_like(quantity).index_copy(0, adjacency.order, quantity)


def _targets(adjacency: Adjacency) -> Tensor:
    """Return the row of every position of `adjacency.index`, `(edges,)`."""
    # Count the rows that begin at or before each position. Unlike repeat_interleave with a known
    # size, this can be exported to ONNX.
    begins = adjacency.ptr[1:-1]
    counts = begins.new_zeros(adjacency.num_edges + 1)
    counts = counts.scatter_add(0, begins, torch.ones_like(begins))
    return counts[:-1].cumsum(0)


def _at_positions(quantity: Tensor, adjacency: Adjacency) -> Tensor:
    """Reorder a quantity of the edges to the order of `adjacency.index`."""
    return quantity if adjacency.order is None else quantity.index_select(0, adjacency.order)
