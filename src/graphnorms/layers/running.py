"""Running statistics: how they are updated, and normalization by them."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.api import activate


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
    ($m = 1 / \text{batches}$, a tensor, so that a compiled graph neither breaks nor recompiles)
    where it is `None`.

    Args:
        running_mean, running_var: The statistics, `(channels,)`.
        num_batches_tracked: The counter, moved by one.
        mean, var: Those of the batch; `var` is the unbiased one.
        momentum: $m$.
    """
    num_batches_tracked.add_(1)
    mean, var = mean.detach().to(running_mean.dtype), var.detach().to(running_var.dtype)
    if momentum is None:
        weight = 1 / num_batches_tracked.to(running_mean.dtype)
        running_mean.mul_(1 - weight).add_(mean * weight)
        running_var.mul_(1 - weight).add_(var * weight)
    else:
        running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
        running_var.mul_(1 - momentum).add_(var, alpha=momentum)


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
    return activate(y, activation).to(x.dtype)
