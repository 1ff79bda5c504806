"""The primitive: `segment_normalize` and its checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphnorms.kernels import autograd, reference, synchronized
from graphnorms.kernels.backend import CPU, pick, runs_as_operator
from graphnorms.kernels.cpu import normalize as cpu
from graphnorms.kernels.domain_cells import cells_of_center
from graphnorms.kernels.dropout import draw_seed
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.operators import forward_operator
from graphnorms.kernels.point import (
    NO_PARAMETERS,
    Averages,
    Call,
    Over,
    Parameters,
    Point,
    accumulation_dtype,
    check_activation,
    check_dropout,
    check_function,
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
    layout: Layout | None = None,
    mean_scale: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    function: str | None = None,
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

    $\mu$ is the mean over the entries in a cell of the domain `center`, $s^2$ the second moment
    over those in a cell of `scale` (see `Over`). $s^2$ is the variance only if both domains are the
    same and $\alpha = 1$. Without a centre $o = x$; without a scale
    $y = D(f(\gamma o + \beta)) + r$. Masked rows do not count, and their result is $x + r$.

    A `layout` has cells of columns of any width in place of `groups`, with a weight for each
    column: $s^2 = \mathrm{mean}_{rows} \sum_c o_c^2 / d_c$.

    A bounded `function` $\varphi$ takes the place of the statistics, without center and scale:
    $y = D(f(\gamma \, \varphi(a x + s) + \beta)) + r$.

    Shapes: `x`, `residual` and the result `(rows, channels)`; `mean_scale` `(channels,)`; `weight`
    and `bias` `(channels,)`, or `(segments, channels)` for parameters per segment.

    Precision: statistics in float32 or wider, centred before squaring, relative to an entry of the
    cell, in forward and backward: the error does not grow with $|\mu| / \sigma$. The result has the
    dtype of `x`. NaN and infinities stay within their cells.

    Args:
        x: The features.
        segments: The segments of the rows.
        center: Domain of the mean; `None` to subtract nothing.
        scale: Domain of the second moment; `None` to divide by nothing.
        groups: Number of channel groups of `Over.CHANNELS` and `Over.BOTH`.
        layout: The cells of columns of these domains in place of groups, and which columns are
            centred.
        mean_scale: $\alpha$, the share of the mean to remove; `None` for 1. With a function its
            slope $a$, `(1,)`, or its slope and shift $s$, `(2,)`; `None` for 1 and 0.
        weight, bias: $\gamma$ and $\beta$; `None` for 1 and 0.
        eps: $\varepsilon$, in the squared unit of `x`.
        function: $\varphi$: `None`, `"tanh"` or `"erf"`.
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"` (slope
            0.01), `"gelu"` (the exact one) or `"silu"`.
        dropout: Probability $p$ with which $D$ sets an entry to 0; the others are divided by
            $1 - p$. No mask is stored: it is a function of `seed`, row and channel.
        seed: One int64; `None` draws it from torch's generator if `dropout` is not 0.
        residual: $r$, added last; `None` for 0.
        backend: `"auto"`, or the name of a backend, without a fallback to another.
        process_group: Ranks over which the rows of every segment are spread: `"world"` (or `True`)
            or a `ProcessGroup`; statistics are those of all their rows.

    Raises:
        ValueError: A shape or dtype does not fit, `groups` does not divide the channels, a `layout`
            comes with groups, a function or a scale over nodes alone, `dropout`
            is outside 0 … 1, the function, activation or backend is unknown, or the ranks have
            different numbers of segments.
        RuntimeError: `process_group` is given, but `torch.distributed` is not initialized.
        BackendRefusedError: The requested backend cannot run this; the message says why.
    """
    _check(x, segments, groups, weight, bias, residual)
    check_function(function)
    point = Point(center, scale, groups=groups, function=function)
    _check_mean_scale(x, point, mean_scale)
    if layout is not None:
        _check_layout(x, point, layout)
    if mean_scale is not None and center is None and function is None:
        raise ValueError("mean_scale is given, but center is None; choose a center")
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
    call = Call(segments, point, eps, activation, dropout, seed if dropout else None, layout)
    parameters = (mean_scale, weight, bias)
    y, _ = normalize(x, call, parameters, residual, backend=backend, ranks=ranks)
    return y


@dataclass(frozen=True, slots=True)
class Statistics:
    """The statistics of a normalization, without a gradient.

    Args:
        mean: Per cell of the centre domain, in the accumulation dtype.
        moment: Per cell of the scale domain.
        measured: The statistics as a kernel returns them, if one was called directly: relative to
            the first row.
        counts: Rows of every segment on all ranks, `(segments,)`, if there are several.
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
    """Run `segment_normalize` on arguments that are known to be consistent.

    Args:
        x, call, parameters, residual: The arguments of the equation.
        backend: See `segment_normalize`.
        statistics: Whether to return the statistics.
        ranks: Ranks that share the segments.

    Returns:
        y, and the statistics if requested.
    """
    point = call.point
    if ranks is not None and point.spans_rows and ranks.size() > 1:
        y, shared = synchronized.normalize(x, call, parameters, residual, ranks, backend)
        if not statistics:
            return y, None
        return y, Statistics(lambda: shared.mean, lambda: shared.moment, None, shared.counts)
    mean_scale, weight, bias = parameters
    device = "cpu" if x.is_cpu else x.device.type
    ragged = call.layout is not None
    wanted = (device, x.dtype, point.center, point.scale, mean_scale is not None, ragged, backend)
    plain = is_plain(x)
    if not plain:
        if not runs_as_operator(x, *wanted):
            return _in_plain_torch(x, call, parameters, residual, statistics)
        y, measured = forward_operator(x, residual, parameters, call, statistics)
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
    else:  # without a Function a small call takes half the time
        y, measured = chosen.forward(x, residual, parameters, call, statistics)
    if not statistics:
        return y, None
    return y, _statistics_over_nodes(x, call, measured, plain)


def _in_plain_torch(
    x: Tensor, call: Call, parameters: Parameters, residual: Tensor | None, statistics: bool
) -> tuple[Tensor, Statistics | None]:
    y, mean, moment = reference.segment_normalize(x, call, parameters, residual)
    return y, Statistics(mean.detach, moment.detach, None) if statistics else None


def _statistics_over_nodes(x: Tensor, call: Call, measured: Tensor, direct: bool) -> Statistics:
    def parts() -> tuple[Tensor, ...]:
        # Not split before they are asked for: running averages take `measured` as it is.
        centers, scales = call.cells(x)
        shape = (call.segments.num_segments, -1)
        split = measured.split([centers, scales, scales])
        return tuple(part.view(shape) for part in split)

    def mean() -> Tensor:
        cells = cells_of_center(call)
        if cells is None:
            return measured.new_zeros((0, 0))
        found: Tensor = cells.first(x.detach()).to(measured.dtype) + parts()[0]
        return found

    return Statistics(mean, lambda: parts()[2], measured if direct else None)


def normalize_by_averages(
    x: Tensor,
    call: Call,
    parameters: Parameters,
    averages: Averages,
    residual: Tensor | None,
    backend: str,
) -> Tensor | None:
    """Normalize by averages in one pass of a kernel, if possible: on the CPU, without gradients.

    Args:
        x, residual: The features, and what is added last.
        call: All rows as one segment, without statistics.
        parameters: Those of the call.
        averages: They take the place of statistics.
        backend: See `segment_normalize`.

    Returns:
        The result, `(rows, channels)` in the dtype of x; `None` where no kernel takes the call.
    """
    learning = torch.is_grad_enabled() and any(
        each is not None and each.requires_grad for each in (x, residual, *parameters)
    )
    wide = accumulation_dtype(x.dtype)
    if (
        learning
        or not x.is_cpu
        or not is_plain(x)
        or backend not in ("auto", CPU.name)
        or any(average.dtype is not wide for average in averages)
        or pick("cpu", x.dtype, None, None, False, False, backend) is not CPU
    ):
        return None
    return cpu.normalize_by_averages(x, residual, parameters, call, averages)


def move_averages(
    x: Tensor,
    segments: Segments,
    statistics: Statistics,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    momentum: float,
) -> bool:
    """Update running averages of mean and unbiased variance by a kernel, if possible.

    Args:
        x: The features; all rows form one segment.
        segments: This segment.
        statistics: The statistics of a normalization over nodes.
        running_mean, running_var: The averages, changed in place.
        num_batches_tracked: Their counter, increased by one.
        momentum: Weight of x in them.

    Returns:
        Whether the averages were updated.
    """
    measured = statistics.measured
    if (
        measured is None
        or segments.order is not None
        or not x.is_cpu
        or running_mean.dtype != measured.dtype
        or num_batches_tracked.dtype != torch.int64  # `module.type()` converts it
    ):
        return False
    averages = (running_mean, running_var, num_batches_tracked)
    cpu.update_running(x, measured, *averages, momentum)
    return True


def finish(x: Tensor, activation: str | None, dropout: float, seed: Tensor | None) -> Tensor:
    """Apply activation and dropout without a normalization."""
    return reference.finish(x, activation, dropout, seed)


def _check(
    x: Tensor,
    segments: Segments,
    groups: int,
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


def _check_layout(x: Tensor, point: Point, layout: Layout) -> None:
    table, expected = layout.table, (3, x.shape[1])
    if table.shape != expected or table.dtype != torch.int64 or table.device != x.device:
        raise ValueError(
            f"the table of layout is {tuple(table.shape)} of {table.dtype} on {table.device}, "
            f"expected {expected} of int64 on {x.device} for the columns of x"
        )
    other = {
        f"groups is {point.groups}": point.groups != 1,
        f"function is {point.function!r}": point.function is not None,
        "scale is Over.NODES, where every column is a cell": point.scale is Over.NODES,
    }
    for given, refused in other.items():
        if refused:
            raise ValueError(f"{given}, but a layout is given; use one of the two")


def _check_mean_scale(x: Tensor, point: Point, mean_scale: Tensor | None) -> None:
    channels = x.shape[1]
    if point.function is None:
        if mean_scale is not None and mean_scale.shape != (channels,):
            raise ValueError(
                f"mean_scale is {tuple(mean_scale.shape)}, expected one number per channel of x, "
                f"({channels},)"
            )
        return
    if point.center is not None or point.scale is not None:
        raise ValueError(
            f"function is {point.function!r}, which takes the place of center and scale; use None "
            "for both"
        )
    if mean_scale is not None and mean_scale.shape not in ((1,), (2,)):
        raise ValueError(
            f"mean_scale is {tuple(mean_scale.shape)}, expected the slope of the function, (1,), "
            "or its slope and shift, (2,)"
        )
