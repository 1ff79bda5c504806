"""The primitive: `segment_normalize`, its checks and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphnorms.kernels import autograd, reference, synchronized
from graphnorms.kernels.backend import pick, runs_as_operator
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.dropout import draw_seed
from graphnorms.kernels.point import (
    NO_PARAMETERS,
    Call,
    Over,
    Parameters,
    Point,
    check_activation,
    check_dropout,
    check_residual,
)
from graphnorms.kernels.ranks import Group, Ranks, as_ranks
from graphnorms.kernels.tensor_checks import check_features
from graphnorms.segments import Segments
from graphnorms.tracing import is_plain


def segment_normalize(
    x: Tensor,
    segments: Segments,
    *,
    center: Over | None,
    scale: Over | None,
    groups: int = 1,
    mean_scale: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    activation: str | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    residual: Tensor | None = None,
    backend: str = "auto",
    process_group: Group = None,
) -> Tensor:
    r"""Center, scale and transform features within their cells: the one equation.

    $$ o = x - \alpha \mu, \quad s^2 = \mathrm{mean}(o^2), \quad
       y = D\Big(f\Big(\gamma \frac{o}{\sqrt{s^2 + \varepsilon}} + \beta\Big)\Big) + r $$

    $\mu$ is the mean over the entries that share a cell of the domain `center`, $s^2$ the
    second moment over those that share a cell of `scale` (see `Over`). $s^2$ is the variance
    only where both domains are the same and $\alpha = 1$. Without a centre $o = x$; without a
    scale $y = D(f(\gamma o + \beta)) + r$. Rows that `segments` leaves out do not count, and
    come out as $x + r$.

    Shapes: `x`, `residual` and the result `(rows, channels)`; `mean_scale` `(channels,)`;
    `weight` and `bias` `(channels,)`, or `(segments, channels)` for parameters of every
    segment's own.

    Precision: statistics in float32 or wider, centred before squaring, relative to an entry of
    the cell, in both directions: the error does not grow with $|\mu| / \sigma$. The result has
    the dtype of `x`. NaN and infinities stay within their cells.

    Args:
        x: The features.
        segments: Which rows belong together.
        center: Over what the mean is taken, or `None` to subtract nothing.
        scale: Over what the second moment is taken, or `None` to divide by nothing.
        groups: Channel groups of `Over.CHANNELS` and `Over.BOTH`.
        mean_scale: $\alpha$, how much of the mean to remove; `None` for 1.
        weight, bias: $\gamma$ and $\beta$; `None` for 1 and 0.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"` (slope
            0.01), `"gelu"` (the exact one) or `"silu"`.
        dropout: The share of entries that $D$ sets to 0, dividing the others by what is left
            of 1. No mask is stored: it is a function of `seed`, row and channel.
        seed: One int64; `None` draws it from torch's generator where `dropout` is not 0.
        residual: $r$, added last; `None` for 0.
        backend: `"auto"`, or one backend by name, which then never falls back.
        process_group: Ranks on each of which the segments have some of their rows: `"world"`
            (or `True`) or a `ProcessGroup`; statistics are those of all.

    Raises:
        ValueError: A shape or dtype that does not fit, `groups` that do not divide the
            channels, a share outside 0 … 1, an unknown activation or backend, or another number
            of segments on another rank.
        RuntimeError: `process_group` is given, but `torch.distributed` is not initialized.
        BackendRefusedError: The backend asked for cannot run this; the message says why.
    """
    _check(x, segments, groups, mean_scale, weight, bias, residual)
    if mean_scale is not None and center is None:
        raise ValueError("mean_scale is given, but center is None: there is no mean to scale")
    check_activation(activation)
    check_dropout(dropout)
    if seed is None:
        seed = draw_seed(x.device) if dropout else None
    elif seed.dtype != torch.int64 or seed.dim() or seed.device != x.device:
        raise ValueError(
            f"seed is {tuple(seed.shape)} of {seed.dtype} on {seed.device}, expected one int64 "
            f"without a dimension on {x.device}"
        )
    ranks = as_ranks(process_group)
    if ranks is not None:
        ranks.agree(segments)
    point = Point(center, scale, groups=groups)
    call = Call(segments, point, eps, activation, dropout, seed if dropout else None)
    parameters = (mean_scale, weight, bias)
    y, _ = normalize(x, call, parameters, residual, backend=backend, ranks=ranks)
    return y


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a normalization has measured, without a gradient.

    Args:
        mean: Per cell of the centre domain, in the accumulation dtype.
        moment: Per cell of the scale domain.
        measured: The same as a kernel left it, if one ran: relative to the first row.
        counts: Rows of every segment on all ranks, where several measured, `(segments,)`.
    """

    mean: Callable[[], Tensor]
    moment: Callable[[], Tensor]
    measured: Tensor | None
    counts: Tensor | None = None


def normalize(
    x: Tensor,
    call: Call,
    parameters: Parameters = NO_PARAMETERS,
    residual: Tensor | None = None,
    *,
    backend: str = "auto",
    statistics: bool = False,
    ranks: Ranks | None = None,
) -> tuple[Tensor, Statistics | None]:
    """Run `segment_normalize` on arguments that fit each other, as a layer knows of its own.

    Args:
        x, call, parameters, residual: All of the equation.
        backend: See `segment_normalize`.
        statistics: Whether to return them.
        ranks: Ranks that have rows of the same segments.

    Returns:
        y, and the statistics if they are asked for.
    """
    point = call.point
    if ranks is not None and point.spans_rows and ranks.size() > 1:
        y, shared = synchronized.normalize(x, call, parameters, residual, ranks, backend)
        if not statistics:
            return y, None
        return y, Statistics(lambda: shared.mean, lambda: shared.moment, None, shared.counts)
    mean_scale, weight, bias = parameters
    device = "cpu" if x.is_cpu else x.device.type
    wanted = (device, x.dtype, point.center, point.scale, mean_scale is not None, backend)
    if not is_plain(x):
        if not runs_as_operator(x, *wanted):
            return _in_plain_torch(x, call, parameters, residual, statistics)
        y, measured = autograd.as_operator(x, residual, parameters, call, statistics)
    elif (chosen := pick(*wanted)) is None:
        return _in_plain_torch(x, call, parameters, residual, statistics)
    elif torch.is_grad_enabled() and (
        x.requires_grad
        or (residual is not None and residual.requires_grad)
        or (mean_scale is not None and mean_scale.requires_grad)
        or (weight is not None and weight.requires_grad)
        or (bias is not None and bias.requires_grad)
    ):
        found = autograd.apply(x, residual, *parameters, (call, statistics, chosen))
        if not statistics:
            return found, None
        y, measured = found
    else:  # a small call takes half the time without a Function
        y, measured = chosen.forward(x, residual, parameters, call, statistics)
    if not statistics:
        return y, None
    return y, _statistics_over_nodes(x, call.segments, measured)


def _in_plain_torch(
    x: Tensor, call: Call, parameters: Parameters, residual: Tensor | None, statistics: bool
) -> tuple[Tensor, Statistics | None]:
    y, mean, moment = reference.segment_normalize(x, call, parameters, residual)
    return y, Statistics(mean.detach, moment.detach, None) if statistics else None


def _statistics_over_nodes(x: Tensor, segments: Segments, measured: Tensor) -> Statistics:
    parts = measured.view(3, segments.num_segments, x.shape[1])  # shift, rstd, moment

    def mean() -> Tensor:
        first = reference.first_of_cells(x.detach(), segments, Over.NODES, 1)
        return parts[0] + first.to(measured.dtype)

    return Statistics(mean, lambda: parts[2], measured)


def move_averages(
    x: Tensor,
    segments: Segments,
    statistics: Statistics,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
) -> bool:
    """Move running averages of mean and unbiased variance by a kernel, if one can.

    Args:
        x: The features, all rows one segment.
        segments: That segment.
        statistics: What a normalization over nodes measured of it.
        running_mean, running_var: The averages, changed in place.
        momentum: Weight of x in them.

    Returns:
        Whether it was done.
    """
    if (
        statistics.measured is None or segments.order is not None
        or not (x.is_cpu and is_plain(x))
        or running_mean.dtype != statistics.measured.dtype
    ):  # fmt: skip
        return False
    cpu.update_running(x, statistics.measured, running_mean, running_var, momentum)
    return True


def finish(x: Tensor, activation: str | None, dropout: float, seed: Tensor | None) -> Tensor:
    """Do what is fused behind a normalization by itself, where there is none to fuse it with."""
    return reference.finish(x, activation, dropout, seed)


def _check(
    x: Tensor,
    segments: Segments,
    groups: int,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
) -> None:
    check_features(x)
    rows, channels = x.shape
    if segments.num_rows != rows:
        raise ValueError(f"segments has {segments.num_rows} rows, but x has {rows}")
    if segments.ptr.device != x.device:
        raise ValueError(f"segments is on {segments.ptr.device}, but x is on {x.device}")
    if groups < 1 or channels % groups:
        raise ValueError(f"groups is {groups}, which does not divide the {channels} channels of x")
    if mean_scale is not None and mean_scale.shape != (channels,):
        raise ValueError(
            f"mean_scale is {tuple(mean_scale.shape)}, expected one number per channel of x, "
            f"({channels},)"
        )
    own = (segments.num_segments, channels)
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and parameter.shape not in ((channels,), own):
            raise ValueError(
                f"{name} is {tuple(parameter.shape)}, expected one number per channel of x, "
                f"({channels},), or per segment and channel, {own}"
            )
    if weight is not None and bias is not None and weight.dim() != bias.dim():
        raise ValueError(
            f"weight is {tuple(weight.shape)} and bias {tuple(bias.shape)}, expected one shape"
        )
    check_residual(residual, x)
