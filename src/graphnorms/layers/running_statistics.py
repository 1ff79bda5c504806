"""Running statistics: buffers, updates, and normalization by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.kernels.primitive import Statistics, move_averages
from graphnorms.segments import Segments
from graphnorms.tracing import is_batched, is_transformed


class RunningStatistics(nn.Module):
    """A module that keeps its `running_…` buffers in float32 or wider.

    A running average moves in small steps: in half precision they are rounded away, and it stops at
    98 for a mean of 100.
    """

    # Since version 2 `num_batches_tracked` is in every checkpoint, as in torch's norms.
    _version = 2

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = [value for name, value in self._buffers.items() if name.startswith("running_")]

        def convert(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            if _is_narrow(result) and any(tensor is value for value in kept):
                return tensor.to(result.device, torch.float32)
            return result

        return super()._apply(convert, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *rest: Any
    ) -> None:
        # Like torch, treat a file without metadata as one from before there were counters.
        is_old = (local_metadata.get("version") or 1) < 2
        for name, value in self._buffers.items():
            key = prefix + name
            if name.startswith("running_") and _is_narrow(state_dict.get(key)):
                state_dict[key] = state_dict[key].float()
            if name == "num_batches_tracked" and value is not None and is_old:
                state_dict.setdefault(key, torch.tensor(0) if value.is_meta else value)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def add_averages(
    norm: nn.Module, shape: tuple[int, ...], *, device: Any, dtype: torch.dtype | None, wanted: bool
) -> None:
    """Register running mean, running variance and counter; `None` if not wanted."""
    mean = torch.zeros(shape, device=device, dtype=running_dtype(dtype)) if wanted else None
    norm.register_buffer("running_mean", mean)
    norm.register_buffer("running_var", None if mean is None else torch.ones_like(mean))
    counter = torch.tensor(0, dtype=torch.long, device=device) if wanted else None
    norm.register_buffer("num_batches_tracked", counter)


def reset_averages(norm: Any) -> None:
    """Set the running mean to 0, the variance to 1 and the counter to 0, if present."""
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.zero_()
        norm.running_var.fill_(1)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.zero_()


def running_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """Return the dtype of the running statistics of a module with parameters in `dtype`."""
    dtype = torch.get_default_dtype() if dtype is None else dtype
    return torch.float32 if dtype.itemsize < 4 else dtype


def _is_narrow(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dtype.itemsize < 4


def check_not_batched(running: Tensor, value: Tensor) -> None:
    """Refuse to update one running statistic with the batched values of a vmap.

    Raises:
        ValueError: The values are batched, and the running statistic is not.
    """
    if not is_transformed() or torch.compiler.is_compiling():
        return
    if is_batched(value) and not is_batched(running):
        raise ValueError(
            "running statistics cannot follow the batches of a torch.vmap; call "
            "eval(), or set track_running_stats=False"
        )


def update_by_batch(
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    x: Tensor,
    segments: Segments,
    statistics: Statistics,
    momentum: float | None,
) -> None:
    """Update the running statistics by those of all rows that count, as BatchNorm does.

    Args:
        running_mean, running_var, num_batches_tracked, momentum: See `update_running`.
        x: The features, at least two rows (counted over all ranks).
        segments: The single segment of the normalization.
        statistics: The statistics of the normalization.
    """
    if momentum is not None and move_averages(
        x, segments, statistics, running_mean, running_var, num_batches_tracked, momentum
    ):
        return
    if segments.masked or statistics.counts is not None:
        counts = segments.counts if statistics.counts is None else statistics.counts
        rows = counts.to(running_var.dtype)  # (1,)
        factor: Tensor | float = rows / (rows - 1).clamp(min=1)
    else:
        rows, factor = None, x.shape[0] / (x.shape[0] - 1)
    update_running(
        running_mean,
        running_var,
        num_batches_tracked,
        statistics.mean()[0],
        statistics.moment()[0] * factor,
        momentum,
        rows,
    )


def update_running(
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor | None,
    mean: Tensor,
    var: Tensor,
    momentum: float | None,
    rows: Tensor | None = None,
) -> None:
    r"""Update the running statistics by those of a batch, in place and without gradient.

    $r \leftarrow (1 - m) r + m v$ with $m$ the momentum, or the cumulative average
    ($m = 1 / \text{batches}$, a tensor, so that a compiled graph neither breaks nor recompiles) if
    it is `None`.

    Args:
        running_mean, running_var: The statistics, `(channels,)`.
        num_batches_tracked: The counter, increased by one; `None` for a layer without one, which
            has a momentum.
        mean, var: Mean and variance of the batch.
        momentum: $m$.
        rows: Number of rows as a tensor, if the host does not know whether it is 0; a zero count
            leaves the averages unchanged.
    """
    check_not_batched(running_mean, mean)
    any_rows = None if rows is None else (rows.sum() > 0).to(torch.int64)
    if num_batches_tracked is not None:
        num_batches_tracked.add_(1 if any_rows is None else any_rows)
    mean, var = mean.detach().to(running_mean.dtype), var.detach().to(running_var.dtype)
    weight: Tensor | float
    if momentum is not None:
        weight = momentum
    else:
        assert num_batches_tracked is not None
        weight = 1 / num_batches_tracked.clamp(min=1).to(running_mean.dtype)
    if any_rows is not None:
        weight = any_rows.to(running_mean.dtype) * weight
    for running, value in ((running_mean, mean), (running_var, var)):
        # Not `running + weight (value - running)`, which is NaN once both are infinite.
        running.mul_(1 - weight).add_(value * weight)


def by_running(
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    kinds: Tensor | None = None,
) -> Callable[[Tensor], Tensor]:
    r"""Make the function $x \mapsto \gamma (x - r_\mu) / \sqrt{r_v + \varepsilon} + \beta$.

    The mean is subtracted before multiplying, so that a mean that is large relative to the spread
    costs no precision.

    Args:
        running_mean, running_var, weight, bias: `(channels,)`, or `(kinds, channels)`.
        eps: $\varepsilon$.
        kinds: The kind of each row, `(rows,)`, if the statistics are per kind of row.
    """

    def of_rows(values: Tensor) -> Tensor:
        return values if kinds is None else values.index_select(0, kinds)

    def normalize(x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, running_mean.dtype)
        factor = torch.rsqrt(running_var.to(dtype) + eps)
        if weight is not None:
            factor = factor * weight.to(dtype)
        y = (x.to(dtype) - of_rows(running_mean.to(dtype))) * of_rows(factor)
        if bias is not None:
            y = y + of_rows(bias.to(dtype))
        return y.to(x.dtype)

    return normalize
