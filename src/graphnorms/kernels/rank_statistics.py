"""Statistics of the rows of one rank, and merging those of all ranks.

Counts, means and sums of squared deviations are merged by Chan, Golub & LeVeque (1983),

    n = sum n_r,   mean = sum n_r mean_r / n,   M2 = sum M2_r + n_r (mean_r - mean)^2,

with means relative to one pivot, so that differences and squares do not lose digits to a large
mean. All ranks get the same bits.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.errors import BackendRefusedError
from graphnorms.kernels import reference
from graphnorms.kernels.backend import CPU, needs_plain_torch, pick
from graphnorms.kernels.domain_cells import Cells
from graphnorms.kernels.point import NO_PARAMETERS, Call, Over, Point, accumulation_dtype
from graphnorms.kernels.ranks import Ranks
from graphnorms.segments import Segments
from graphnorms.tracing import is_plain, outside_graphs


class Merged(NamedTuple):
    """Statistics of all ranks, per segment and channel."""

    rows: Tensor
    """Number of rows, `(segments, 1)`, floating."""
    pivot: Tensor
    """A row of the segment, from any rank."""
    relative: Tensor
    """The mean relative to it."""
    var: Tensor


def measure(x: Tensor, segments: Segments, *, spread: bool, backend: str) -> Tensor:
    """Compute count, pivot, relative mean and, with `spread`, variance, concatenated per
    segment."""
    dtype = accumulation_dtype(x.dtype)
    rows, channels = Cells(segments, Over.NODES), x.shape[1]
    pivot = rows.first(x).to(dtype)  # (segments, channels)
    counts = segments.counts.unsqueeze(1)
    if spread and _kernels_run(x, backend):
        # The statistics of InstanceNorm; its normalized rows are not used.
        _, found = CPU.forward(x, None, NO_PARAMETERS, Call(segments, _INSTANCE), True)
        relative, _, var = found.view(3, *pivot.shape).unbind()
        some = counts > 0
        measured = [torch.where(some, relative, 0), torch.where(some, var, 0)]
    else:
        wide = reference.counted(x, segments)
        shifted = wide - rows.spread(pivot, channels)
        relative = rows.mean(shifted)
        measured = [relative]
        if spread:
            o = shifted - rows.spread(relative, channels)
            measured.append(rows.mean(o * o))
    return torch.cat([counts.to(dtype), pivot, *measured], 1)


def _kernels_run(x: Tensor, backend: str) -> bool:
    wanted = (x.device.type, x.dtype, Over.NODES, Over.NODES, False, False, backend)
    return is_plain(x) and pick(*wanted) is CPU


_INSTANCE: Final = Point(Over.NODES, Over.NODES)


def merge(measured: Tensor, channels: int) -> Merged:
    """Merge the measurements of all ranks, `(ranks, segments, …)`."""
    count, pivots, means = measured.split((1, channels, measured.shape[2] - 1 - channels), 2)
    means, variances = means[..., :channels], means[..., channels:]
    some = count > 0
    # Make all means relative to the pivot of the first rank with a row.
    first = some.to(torch.uint8).argmax(0, keepdim=True).expand(1, -1, channels)
    pivot = pivots.gather(0, first)  # (1, segments, channels)
    apart = torch.where(some, (pivots - pivot) + means, 0)  # (ranks, segments, channels)
    share = count / count.sum(0).clamp(min=1)  # (ranks, segments, 1)
    relative = (share * apart).sum(0)
    var = torch.zeros_like(relative)
    if variances.shape[2]:
        var = (share * torch.where(some, variances + (apart - relative).square(), 0)).sum(0)
    return Merged(count.sum(0), pivot.squeeze(0), relative, var)


@outside_graphs
def merge_moments(
    ranks: Ranks, count: Tensor | float, mean: Tensor, var: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge counts, means and variances of all ranks, differentiable in means and variances.

    Args:
        ranks: The ranks.
        count: Number of rows of this rank.
        mean, var: Mean and variance of its rows; 0 without rows.

    Returns:
        Count, mean and variance of all rows, equal on every rank.
    """
    refuse("auto")
    count = torch.as_tensor(count, dtype=mean.dtype, device=mean.device)
    merged: tuple[Tensor, Tensor, Tensor] = _MergeMoments.apply(  # type: ignore[no-untyped-call]
        mean, var, count, ranks
    )
    return merged


class _MergeMoments(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mean: Tensor, var: Tensor, count: Tensor, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.cat((count.view(1), mean.flatten(), var.flatten()))
        counts, means, variances = ranks.gather(own).split((1, mean.numel(), mean.numel()), 1)
        number = counts.sum()
        share = counts / number.clamp(min=1)  # (ranks, 1)
        pivot = means[:1]
        of_all = pivot + (share * (means - pivot)).sum(0, keepdim=True)
        var_of_all = (share * (variances + (means - of_all).square())).sum(0)
        of_all = of_all.view(mean.shape)
        ctx.save_for_backward(mean - of_all, count / number.clamp(min=1))
        ctx.ranks = ranks
        ctx.mark_non_differentiable(number)
        return number, of_all, var_of_all.view(mean.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_derivative()
        apart, share = ctx.saved_tensors
        grad_mean, grad_var = ctx.ranks.total(torch.stack(grads[1:]))
        return share * (grad_mean + 2 * grad_var * apart), share * grad_var, None, None


def refuse(backend: str) -> None:
    """Refuse a call that needs a kernel, or plain torch without collectives."""
    if backend not in ("auto", "reference"):
        raise BackendRefusedError(
            f"backend {backend!r} cannot run this: it cannot synchronize statistics over a "
            "process group; use backend='auto'"
        )
    if needs_plain_torch("auto"):
        raise BackendRefusedError(
            "a norm with a process_group cannot run under torch.func transforms, forward-mode "
            "differentiation or an export to ONNX; use process_group=None"
        )


def refuse_second_derivative() -> None:
    """Refuse a backward with `create_graph=True`."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the gradient of a norm with a process_group cannot be differentiated again; "
            "leave create_graph=False, or use process_group=None"
        )
