"""The kernels of the normalization, called by the names of their operators' arguments."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels.aggregation.operands import Edges, Weights
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import ACTIVATIONS, FUNCTIONS, Call, Over, Point
from graphnorms.segments import Segments


def call_of(
    x: Tensor,
    *,
    ptr: Tensor,
    order: Tensor | None = None,
    seed: Tensor | None = None,
    center: int,
    scale: int,
    groups: int = 1,
    eps: float = 1e-5,
    activation: int = 0,
    dropout: float = 0.0,
    longest: int = -1,
    masked: bool = False,
    function: int = 0,
    table: Tensor | None = None,
    centers: int = 1,
    scales: int = 1,
) -> Call:
    """A call in the numbers of the operators."""
    over = (Over(center) if center else None, Over(scale) if scale else None)
    known = None if longest < 0 else longest
    segments = Segments(ptr, order, x.shape[0], longest=known, masked=masked)
    point = Point(*over, groups=groups, function=FUNCTIONS[function])
    layout = None if table is None else Layout(table, centers, scales)
    return Call(segments, point, eps, ACTIVATIONS[activation], dropout, seed, layout)


def run_forward(
    kernels: ModuleType,
    *,
    x: Tensor,
    residual: Tensor | None,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    moment: bool,
    **operands: Any,
) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = kernels.normalize_forward(
        x, residual, (mean_scale, weight, bias), call_of(x, **operands), moment
    )
    return found


def run_backward(
    kernels: ModuleType,
    *,
    grad_y: Tensor,
    x: Tensor,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor,
    needs: list[bool],
    **operands: Any,
) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor | None, ...] = kernels.normalize_backward(
        grad_y, x, (mean_scale, weight, bias), statistics, call_of(x, **operands), needs
    )
    return found


def run_double_backward(
    kernels: ModuleType,
    *,
    of_grad_x: Tensor,
    of_grad_mean_scale: Tensor | None,
    of_grad_weight: Tensor | None,
    of_grad_bias: Tensor | None,
    grad_y: Tensor,
    x: Tensor,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Tensor,
    needs: list[bool] | None = None,
    **operands: Any,
) -> tuple[Tensor | None, ...]:
    """All gradients unless others are needed."""
    cotangents = (of_grad_x, of_grad_mean_scale, of_grad_weight, of_grad_bias)
    parameters, call = (mean_scale, weight, bias), call_of(x, **operands)
    found: tuple[Tensor | None, ...] = kernels.normalize_double_backward(
        cotangents, grad_y, x, parameters, statistics, call, needs or [True] * 5
    )
    return found


def run_aggregate(
    kernels: ModuleType,
    *,
    x: Tensor,
    ptr: Tensor,
    index: Tensor,
    order: Tensor | None,
    **weights: Any,
) -> Tensor:
    y: Tensor = kernels.aggregate(x, Edges(ptr, index, order), Weights(**weights))
    return y


def run_aggregate_backward(
    kernels: ModuleType,
    *,
    grad_y: Tensor,
    x: Tensor,
    ptr: Tensor,
    index: Tensor,
    order: Tensor | None,
    needs: list[bool],
    **weights: Any,
) -> tuple[Tensor, Tensor]:
    edges = Edges(ptr, index, order)
    found: tuple[Tensor, Tensor] = kernels.aggregate_backward(
        grad_y, x, edges, Weights(**weights), needs
    )
    return found


def kept(rows: int, channels: int, share: float, seed: int, backend: str = "auto") -> Tensor:
    """Which entries stay: with nothing to normalize, those of the result that are not 0."""
    y = gn.segment_normalize(
        torch.ones(rows, channels),
        Segments.single(rows),
        center=None,
        scale=None,
        dropout=share,
        seed=torch.tensor(seed),
        backend=backend,
    )
    assert torch.equal(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - share)))
    return y != 0
