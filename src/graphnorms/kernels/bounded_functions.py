"""The bounded functions that may take the place of the statistics, in plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor


class Function(NamedTuple):
    """A bounded function φ and its first two derivatives.

    The derivatives take v and φ(v).
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    curvature: Callable[[Tensor, Tensor], Tensor]


def _tanh_slope(v: Tensor, _: Tensor) -> Tensor:
    # 1 - φ² would cancel where φ is near 1; beyond 45 cosh² would overflow float32.
    return torch.cosh(v.clamp(-45, 45)).square().reciprocal()


def _erf_slope(v: Tensor, _: Tensor) -> Tensor:
    return torch.exp(-v * v) * (2 / math.sqrt(math.pi))


FUNCTIONS: Final = {
    "tanh": Function(torch.tanh, _tanh_slope, lambda v, value: -2 * value * _tanh_slope(v, value)),
    "erf": Function(torch.erf, _erf_slope, lambda v, value: -2 * v * _erf_slope(v, value)),
}
"""By the names in `graphnorms.kernels.point.FUNCTIONS`."""


def argument(x: Tensor, given: Tensor | None) -> Tensor:
    """Compute v = a x + s.

    Args:
        x: The features.
        given: a, or a and s; they are 1 and 0 by default.
    """
    if given is None:
        return x
    given = given.to(x.dtype)
    return x * given[0] if given.shape[0] == 1 else x * given[0] + given[1]
