"""Running statistics: how they are updated, and normalization by them."""

from __future__ import annotations

import torch
from torch import Tensor


def update_running(
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    mean: Tensor,
    var: Tensor,
    momentum: float | None,
) -> None:
    r"""Move the running statistics towards those of a batch, in place and without gradient.

    $r \leftarrow (1 - m) r + m v$ with $m$ the momentum, or the cumulative average
    ($m = 1 / \text{batches}$) where it is `None`. The momentum stays a tensor, so that a
    compiled graph neither breaks nor recompiles.

    Args:
        running_mean, running_var: The statistics, `(channels,)`.
        num_batches_tracked: The counter, moved by one.
        mean, var: Those of the batch; `var` is the unbiased one.
        momentum: $m$.
    """
    with torch.no_grad():
        num_batches_tracked.add_(1)
        weight = (
            1 / num_batches_tracked.to(running_mean.dtype)
            if momentum is None
            else torch.full((), momentum, dtype=running_mean.dtype, device=running_mean.device)
        )
        running_mean.lerp_(mean.to(running_mean.dtype), weight)
        running_var.lerp_(var.to(running_var.dtype), weight)


def normalize_by_running(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    eps: float,
    activation: str | None,
) -> Tensor:
    r"""Normalize by given statistics.

    $$ y = f\big(\gamma (x - r_\mu) / \sqrt{r_v + \varepsilon} + \beta\big) $$

    The mean is subtracted before anything is multiplied, so that a mean that is large against
    the spread costs no precision.
    """
    dtype = torch.promote_types(x.dtype, running_mean.dtype)
    factor = torch.rsqrt(running_var.to(dtype) + eps)
    if weight is not None:
        factor = factor * weight.to(dtype)
    y = (x.to(dtype) - running_mean.to(dtype)) * factor
    if bias is not None:
        y = y + bias.to(dtype)
    if activation == "relu":
        y = torch.relu(y)
    return y.to(x.dtype)
