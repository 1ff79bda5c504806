"""How far a result may be from the exact one."""

from __future__ import annotations

import math

import torch

_OPERATIONS = 24
"""Rounded operations between an entry and its result, the sums apart; counted generously."""


def tolerance(dtype: torch.dtype, length: int) -> float:
    r"""Return the error allowed of a normalized value or gradient, relative to its scale.

    $u (24 + \sqrt{n})$ with $u$ the unit roundoff and $n$ the number of entries that share a
    statistic: the rounding errors of a sum of $n$ terms grow like $\sqrt{n}$ where they are
    independent, and a sum in blocks has a smaller worst case than that. Nothing grows with
    $|\mu| / \sigma$: a kernel that loses digits there fails.

    Features in half precision have statistics in float32, and their result is rounded once
    more, to their own dtype.

    Args:
        dtype: That of the features.
        length: $n$.
    """
    statistics = torch.float64 if dtype == torch.float64 else torch.float32
    allowed = torch.finfo(statistics).eps / 2 * (_OPERATIONS + math.sqrt(length))
    if dtype != statistics:
        allowed += torch.finfo(dtype).eps / 2
    return allowed
