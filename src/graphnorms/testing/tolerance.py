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

    Args:
        dtype: That of the features, whose precision the statistics have at least.
        length: $n$.
    """
    return torch.finfo(dtype).eps / 2 * (_OPERATIONS + math.sqrt(length))
