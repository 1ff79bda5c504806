"""The tolerance of a result, computed from dtype and reduction length."""

from __future__ import annotations

import math

import torch

_OPERATIONS = 24
"""Rounded operations between an entry and its result, without the sums; a generous count."""


def tolerance(dtype: torch.dtype, length: int) -> float:
    r"""Return the allowed error of a normalized value or gradient, relative to its scale.

    It is $u (24 + \sqrt{n})$ with $u$ the unit roundoff and $n$ the number of entries that share a
    statistic: independent rounding errors of a sum of $n$ terms grow like $\sqrt{n}$, and blocked
    sums have a smaller worst case. It does not grow with $|\mu| / \sigma$: a kernel that loses
    digits there fails.

    For features in half precision, statistics are in float32, and the result is rounded once more
    to the dtype of the features.

    Args:
        dtype: Dtype of the features.
        length: $n$.
    """
    statistics = torch.float64 if dtype == torch.float64 else torch.float32
    allowed = torch.finfo(statistics).eps / 2 * (_OPERATIONS + math.sqrt(length))
    if dtype != statistics:
        allowed += torch.finfo(dtype).eps / 2
    return allowed
