"""The kernels of the normalization, called by the names of their operators' arguments."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels.point import Operands
from graphnorms.segments import Segments


def run_forward(
    kernels: ModuleType, *, x: Tensor, residual: Tensor | None, mean_scale: Tensor | None,
    weight: Tensor | None, bias: Tensor | None, moment: bool, **operands: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    found: tuple[Tensor, Tensor] = kernels.normalize_forward(
        x, residual, (mean_scale, weight, bias), Operands(**operands), moment
    )
    return found


def run_backward(
    kernels: ModuleType, *, grad_y: Tensor, x: Tensor, mean_scale: Tensor | None,
    weight: Tensor | None, bias: Tensor | None, statistics: Tensor, needs: list[bool],
    **operands: Any,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    parameters = (mean_scale, weight, bias)
    found: tuple[Tensor | None, ...] = kernels.normalize_backward(
        grad_y, x, parameters, statistics, Operands(**operands), needs
    )
    return found


def kept(rows: int, channels: int, share: float, seed: int, backend: str = "auto") -> Tensor:
    """Which entries stay: with nothing to normalize, those of the result that are not 0."""
    y = gn.segment_normalize(
        torch.ones(rows, channels), Segments.single(rows), center=None, scale=None,
        dropout=share, seed=torch.tensor(seed), backend=backend,
    )  # fmt: skip
    assert torch.equal(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - share)))
    return y != 0
