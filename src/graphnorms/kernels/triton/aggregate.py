"""The Triton kernels of the aggregation as functions of tensors, called like those of the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphnorms.kernels.calls import check_memory
from graphnorms.kernels.cpu.extension import rows_contiguous
from graphnorms.kernels.point import accumulation_dtype
from graphnorms.kernels.triton import tiles
from graphnorms.kernels.triton.call import check_index, check_like
from graphnorms.kernels.triton.loading import (
    DTYPES,
    accumulator,
    device_code,
    launch,
)


def aggregate(
    x: Tensor, ptr: Tensor, index: Tensor, order: Tensor | None, node_scale: Tensor | None,
    edge_weight: Tensor | None, edge_features: Tensor | None, self_weight: float,
) -> Tensor:  # fmt: skip
    """Run the forward kernel; see `graphnorms.kernels.cpu.aggregate.aggregate`."""
    edges = _Edges.of(x, ptr, index, order, node_scale, edge_weight, edge_features)
    x = rows_contiguous(x)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if edges.features is None:
        _sum_neighbours(edges, x, y, self_weight)
        return y
    edges.launch(
        "sum_messages", x, y, edges.features, ptr, index, order, x.stride(0),
        edges.features.stride(0), *x.shape, edges.span, self_weight, WITH_SELF=self_weight != 0,
    )  # fmt: skip
    return y


def aggregate_backward(
    grad_y: Tensor, x: Tensor, ptr: Tensor, index: Tensor, order: Tensor | None,
    node_scale: Tensor | None, edge_weight: Tensor | None, edge_features: Tensor | None,
    self_weight: float, needs: list[bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Run the backward kernels; see `graphnorms.kernels.cpu.aggregate.aggregate_backward`."""
    if (edge_weight is None) == (edge_features is None):
        raise ValueError("expected edge_weight or edge_features, one of the two")
    check_like("grad_y", grad_y, x.shape, x.dtype, x)
    edges = _Edges.of(x, ptr, index, order, node_scale, edge_weight, edge_features)
    x, grad_y = rows_contiguous(x), rows_contiguous(grad_y)
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device) if needs[0] else None
    strides = (x.stride(0), grad_y.stride(0))
    if edges.weight is not None:
        grad_edge = torch.empty_like(edges.weight)
        if grad_x is not None:
            _sum_neighbours(edges, grad_y, grad_x, self_weight)
        edges.launch(
            "weight_gradients", x, grad_y, grad_edge, ptr, index, order, edges.scale, *strides,
            *x.shape, blocks=1,
        )  # fmt: skip
    else:
        assert edges.features is not None
        grad_edge = x.new_empty(edges.features.shape if needs[1] else (0,))
        edges.launch(
            "message_gradients", x, grad_y, edges.features, grad_x,
            grad_edge if needs[1] else None, ptr, index, order, *strides,
            edges.features.stride(0), *x.shape, edges.span, self_weight,
            WITH_SELF=self_weight != 0,
        )  # fmt: skip
    return x.new_empty(0) if grad_x is None else grad_x, grad_edge


def _sum_neighbours(edges: _Edges, x: Tensor, y: Tensor, self_weight: float) -> None:
    edges.launch(
        "sum_neighbours", x, y, edges.ptr, edges.index, edges.order, edges.scale, edges.weight,
        x.stride(0), *x.shape, edges.span, self_weight, WITH_SELF=self_weight != 0,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Edges:
    """The edges as the kernels take them, checked; what they hold is the Adjacency's matter."""

    ptr: Tensor
    index: Tensor
    order: Tensor | None
    scale: Tensor | None
    weight: Tensor | None
    features: Tensor | None
    dtype: torch.dtype
    channels: int
    span: int

    @classmethod
    def of(
        cls, x: Tensor, ptr: Tensor, index: Tensor, order: Tensor | None,
        node_scale: Tensor | None, edge_weight: Tensor | None, edge_features: Tensor | None,
    ) -> _Edges:  # fmt: skip
        if x.dtype not in DTYPES or x.dim() != 2:
            raise ValueError(f"x is {tuple(x.shape)} of {x.dtype}, expected a kernel's dtype")
        check_memory("x", x)
        rows, channels = x.shape
        check_index("ptr", ptr, rows + 1, x)
        edges = index.shape[0]
        check_index("index", index, edges, x)
        if order is not None:
            check_index("order", order, edges, x)
        if edge_features is not None:
            if node_scale is not None or edge_weight is not None:
                raise ValueError("edge_features stand alone, without node_scale and edge_weight")
            check_like("edge_features", edge_features, (edges, channels), x.dtype, x)
            edge_features = rows_contiguous(edge_features)
        return cls(
            ptr, index, order, _vector("node_scale", node_scale, rows, x),
            _vector("edge_weight", edge_weight, edges, x), edge_features, x.dtype, channels,
            tiles.block_of_channels(channels, 1, grouped=False),
        )  # fmt: skip

    def launch(
        self, name: str, *arguments: Any, blocks: int | None = None, **constants: Any
    ) -> None:
        tile = tiles.tile_of_edges(self.span)
        rows = self.ptr.shape[0] - 1
        if blocks is None:
            blocks = -(-self.channels // self.span)
        launch(
            getattr(device_code("edges"), name), (-(-rows // tile.rows), blocks),
            self.ptr.device, *arguments, T=tile.rows, C=tile.channels, warps=tile.warps,
            ACC=accumulator(self.dtype), **constants,
        )  # fmt: skip


def _vector(name: str, vector: Tensor | None, length: int, x: Tensor) -> Tensor | None:
    if vector is None:
        return None
    check_like(name, vector, (length,), vector.dtype, x)
    return vector.to(accumulation_dtype(x.dtype)).contiguous()
