"""The norm of each row, differentiable also at rows of zeros."""

from __future__ import annotations

import torch
from torch import Tensor


def row_norm(x: Tensor, p: float = 2.0) -> Tensor:
    r"""Compute $\lVert x_i \rVert_p$ over the last dimension, which is kept with size 1.

    For a row of zeros the gradient is 0, as in torch; the second derivative is 0 as well, where
    torch gives NaN.
    """
    if p == 2:
        squared = x.square().sum(-1, keepdim=True)
        zero = squared == 0
        return torch.where(zero, 0, torch.where(zero, 1, squared).sqrt())
    zero = (x == 0).all(-1, keepdim=True)
    norm: Tensor = torch.linalg.vector_norm(torch.where(zero, 1, x), p, -1, keepdim=True)
    return torch.where(zero, 0, norm)
