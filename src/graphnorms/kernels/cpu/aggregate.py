"""The C++ kernels of the aggregation as functions of tensors.

Addresses are passed on, so everything is checked here, as in `graphnorms.kernels.cpu.normalize`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels.cpu.extension import (
    DTYPES,
    address,
    check_index,
    common_refusals,
    kernels,
    parameter,
    rows_contiguous,
)
from graphnorms.kernels.problem import AggregateProblem, accumulation_dtype


def aggregate_refusals(problem: AggregateProblem) -> list[str]:
    """Why the backend cannot run an `aggregate`; empty if it can."""
    return common_refusals(problem.device, problem.dtype)


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
    x = rows_contiguous(x)
    node_scale, edge_weight, edge_features = _check(
        x, ptr, index, order, node_scale, edge_weight, edge_features
    )
    y = x.new_empty(tuple(x.shape))
    kernels().aggregate(
        *_edges(x, ptr, index, order, node_scale, edge_weight, edge_features), self_weight,
        x.data_ptr(), x.stride(0), y.data_ptr(),
    )  # fmt: skip
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
    x, grad_y = rows_contiguous(x), rows_contiguous(grad_y)
    if grad_y.shape != x.shape or grad_y.dtype != x.dtype or grad_y.device != x.device:
        raise ValueError(f"grad_y is {grad_y.shape} of {grad_y.dtype}, expected that of x")
    if (edge_weight is None) == (edge_features is None):
        raise ValueError("expected edge_weight or edge_features, one of the two")
    node_scale, edge_weight, edge_features = _check(
        x, ptr, index, order, node_scale, edge_weight, edge_features
    )
    grad_x = x.new_empty(tuple(x.shape) if needs[0] else (0,))
    if edge_weight is not None:
        grad_weight = grad_edge = torch.empty_like(edge_weight)
        grad_features = None
    else:
        grad_features = grad_edge = x.new_empty((index.shape[0], x.shape[1]) if needs[1] else (0,))
        grad_weight = None
    kernels().aggregate_backward(
        *_edges(x, ptr, index, order, node_scale, edge_weight, edge_features), self_weight,
        x.data_ptr(), x.stride(0), grad_y.data_ptr(), grad_y.stride(0), grad_x.data_ptr(),
        address(grad_weight), address(grad_features),
    )  # fmt: skip
    return grad_x, grad_edge


def _check(
    x: Tensor,
    ptr: Tensor,
    index: Tensor,
    order: Tensor | None,
    node_scale: Tensor | None,
    edge_weight: Tensor | None,
    edge_features: Tensor | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Check everything that an address is taken of; return what had to be converted."""
    if not x.is_cpu or x.dtype not in DTYPES:
        raise ValueError(f"x is {x.dtype} on {x.device}, expected a kernel's dtype on the cpu")
    rows, channels = x.shape
    check_index("ptr", ptr, rows + 1)
    check_index("index", index, None)
    edges = index.shape[0]
    if order is not None:
        check_index("order", order, edges)
    if edge_features is not None:
        if node_scale is not None or edge_weight is not None:
            raise ValueError("edge_features stand alone, without node_scale and edge_weight")
        if (
            edge_features.shape != (edges, channels)
            or edge_features.dtype != x.dtype
            or not edge_features.is_cpu
        ):
            raise ValueError(
                f"edge_features is {tuple(edge_features.shape)} of {edge_features.dtype} on "
                f"{edge_features.device}, expected ({edges}, {channels}) of {x.dtype} on the cpu"
            )
        edge_features = rows_contiguous(edge_features)
    dtype = accumulation_dtype(x.dtype)
    node_scale = parameter("node_scale", node_scale, (rows,), dtype)
    edge_weight = parameter("edge_weight", edge_weight, (edges,), dtype)
    return node_scale, edge_weight, edge_features


def _edges(
    x: Tensor,
    ptr: Tensor,
    index: Tensor,
    order: Tensor | None,
    node_scale: Tensor | None,
    edge_weight: Tensor | None,
    edge_features: Tensor | None,
) -> tuple[Any, ...]:
    """What both kernels take first: the struct `Edges` of aggregate.h."""
    return (
        DTYPES[x.dtype], *x.shape, index.shape[0], torch.get_num_threads(), ptr.data_ptr(),
        index.data_ptr(), address(order), address(node_scale), address(edge_weight),
        address(edge_features), 0 if edge_features is None else edge_features.stride(0),
    )  # fmt: skip
