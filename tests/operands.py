"""The kernels of the normalization, called by the names of the arguments of their operators."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor

from graphnorms.kernels.point import Operands


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
