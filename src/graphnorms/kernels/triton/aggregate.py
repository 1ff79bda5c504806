"""The Triton kernels of the aggregation, called like those of the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels.aggregation.operands import Edges, Weights, check_alone
from graphnorms.kernels.cpu.extension import rows_contiguous
from graphnorms.kernels.point import accumulation_dtype
from graphnorms.kernels.tensor_checks import check_memory
from graphnorms.kernels.triton import tiles
from graphnorms.kernels.triton.call import check_index, check_like
from graphnorms.kernels.triton.loading import (
    DTYPES,
    accumulator,
    device_code,
    launch,
)


def aggregate(x: Tensor, edges: Edges, weights: Weights) -> Tensor:
    """Run the forward kernel; see `graphnorms.kernels.cpu.aggregate.aggregate`."""
    launched = _Launch.of(x, edges, weights)
    x = rows_contiguous(x)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    features = launched.weights.edge_features
    if features is None:
        launched.sum_neighbours(x, y)
        return y
    launched.launch(
        "sum_messages",
        *(x, y, features, *edges, x.stride(0), features.stride(0), *x.shape),
        *(launched.span, weights.self_weight),
        WITH_SELF=weights.self_weight != 0,
    )
    return y


def aggregate_backward(
    grad_y: Tensor, x: Tensor, edges: Edges, weights: Weights, needs: list[bool]
) -> tuple[Tensor, Tensor]:
    """Run the backward kernels; see `graphnorms.kernels.cpu.aggregate.aggregate_backward`."""
    if (weights.edge_weight is None) == (weights.edge_features is None):
        raise ValueError("expected either edge_weight or edge_features")
    check_like("grad_y", grad_y, x.shape, x.dtype, x)
    launched = _Launch.of(x, edges, weights)
    node_scale, edge_weight, features, self_weight = launched.weights
    x, grad_y = rows_contiguous(x), rows_contiguous(grad_y)
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device) if needs[0] else None
    strides = (x.stride(0), grad_y.stride(0))
    if edge_weight is not None:
        grad_edge = torch.empty_like(edge_weight)
        if grad_x is not None:
            launched.sum_neighbours(grad_y, grad_x)
        arguments = (x, grad_y, grad_edge, *edges, node_scale, *strides, *x.shape)
        launched.launch("weight_gradients", *arguments, blocks=1)
    else:
        assert features is not None
        grad_edge = x.new_empty(features.shape if needs[1] else (0,))
        launched.launch(
            "message_gradients",
            *(x, grad_y, features, grad_x, grad_edge if needs[1] else None, *edges),
            *(*strides, features.stride(0), *x.shape, launched.span, self_weight),
            WITH_SELF=self_weight != 0,
        )
    return x.new_empty(0) if grad_x is None else grad_x, grad_edge


@dataclass(frozen=True, slots=True)
class _Launch:
    """The checked edges and weights of a launch.

    The values of the indices are not checked: the Adjacency guarantees them.
    """

    edges: Edges
    weights: Weights
    dtype: torch.dtype
    channels: int
    span: int

    @classmethod
    def of(cls, x: Tensor, edges: Edges, weights: Weights) -> _Launch:
        if x.dtype not in DTYPES or x.dim() != 2:
            raise ValueError(f"x is {tuple(x.shape)} of {x.dtype}, expected a kernel's dtype")
        check_memory("x", x)
        rows, channels = x.shape
        check_index("ptr", edges.ptr, rows + 1, x)
        number = edges.ends.shape[0]
        check_index("index", edges.ends, number, x)
        if edges.order is not None:
            check_index("order", edges.order, number, x)
        node_scale, edge_weight, features, self_weight = weights
        if features is not None:
            check_alone(weights)
            check_like("edge_features", features, (number, channels), x.dtype, x)
            features = rows_contiguous(features)
        checked = Weights(
            _vector("node_scale", node_scale, rows, x),
            _vector("edge_weight", edge_weight, number, x),
            features,
            self_weight,
        )
        span = tiles.block_of_channels(channels, 1, grouped=False)
        return cls(edges, checked, x.dtype, channels, span)

    def sum_neighbours(self, x: Tensor, y: Tensor) -> None:
        node_scale, edge_weight, _, self_weight = self.weights
        self.launch(
            "sum_neighbours",
            *(x, y, *self.edges, node_scale, edge_weight, x.stride(0), *x.shape),
            *(self.span, self_weight),
            WITH_SELF=self_weight != 0,
        )

    def launch(
        self, name: str, *arguments: Any, blocks: int | None = None, **constants: Any
    ) -> None:
        tile = tiles.tile_of_edges(self.span)
        rows = self.edges.ptr.shape[0] - 1
        if blocks is None:
            blocks = -(-self.channels // self.span)
        launch(
            getattr(device_code("edges"), name),
            (-(-rows // tile.rows), blocks),
            self.edges.ptr.device,
            *arguments,
            **tile.named("T"),
            ACC=accumulator(self.dtype),
            **constants,
        )


def _vector(name: str, vector: Tensor | None, length: int, x: Tensor) -> Tensor | None:
    if vector is None:
        return None
    check_like(name, vector, (length,), vector.dtype, x)
    return vector.to(accumulation_dtype(x.dtype)).contiguous()
