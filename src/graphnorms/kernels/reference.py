"""Plain torch: the definition of the normalization.

Every other backend must agree with this one. It runs in any floating dtype on any device, is
twice differentiable and works under `torch.func`. It is written for precision and reading, not
for speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels.dropout import drop
from graphnorms.kernels.problem import ACTIVATIONS, Over, accumulation_dtype
from graphnorms.segments import Segments

ACTIVATION_FUNCTIONS: Final[dict[str | None, Callable[[Tensor], Tensor]]] = {
    None: lambda y: y,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}


def _step(low: float) -> Callable[[Tensor], Tensor]:
    return lambda z: torch.where(z > 0, torch.ones_like(z), low)


def _silu_slope(z: Tensor) -> Tensor:
    share = torch.sigmoid(z)
    return share * (1 + z * (1 - share))


def _silu_curvature(z: Tensor) -> Tensor:
    share = torch.sigmoid(z)
    return share * (1 - share) * (2 + z * (1 - 2 * share))


def _gelu_slope(z: Tensor) -> Tensor:
    slope: Tensor = torch.special.ndtr(z) + z * _density(z)
    return slope


def _gelu_curvature(z: Tensor) -> Tensor:
    return (2 - z * z) * _density(z)


def _density(z: Tensor) -> Tensor:
    return torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)


ACTIVATION_DERIVATIVES: Final[
    dict[str | None, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]
] = {
    None: (torch.ones_like, torch.zeros_like),
    "relu": (_step(0.0), torch.zeros_like),
    "leaky_relu": (_step(0.01), torch.zeros_like),
    "gelu": (_gelu_slope, _gelu_curvature),
    "silu": (_silu_slope, _silu_curvature),
}
"""The first and the second derivative of each."""


def segment_normalize(
    x: Tensor,
    segments: Segments,
    *,
    center: Over | None,
    scale: Over | None,
    groups: int,
    mean_scale: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    activation: str | None,
    dropout: float,
    seed: Tensor | None,
    residual: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the one equation; see `graphnorms.kernels.api.segment_normalize`.

    Returns:
        y, the mean per cell of the centre domain, and the second moment of what the scale
        domain saw, the last two in the accumulation dtype and with their gradients.
    """
    standard = _standardize(x, segments, center, scale, groups, mean_scale, eps)
    y = transform(standard.o_hat, segments, weight, bias)
    y = finish(y, activation, dropout, seed)
    if segments.masked:
        y = torch.where(rows_that_count(segments), y, x.to(y.dtype))
    if residual is not None:
        y = y + residual.to(y.dtype)
    return y.to(x.dtype), standard.mean, standard.moment


class Equation(NamedTuple):
    """All of a call but x and the residual, as `segment_normalize` takes it."""

    segments: Segments
    center: Over | None
    scale: Over | None
    groups: int
    mean_scale: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    eps: float
    activation: str | None
    dropout: float
    seed: Tensor | None

    @classmethod
    def of_call(
        cls, x: Tensor, parameters: Sequence[Tensor | None], ptr: Tensor, order: Tensor | None,
        seed: Tensor | None, choices: Sequence[Any],
    ) -> Equation:  # fmt: skip
        """Read what the operators and kernels take.

        Args:
            x, ptr, order, seed: As they are given to them.
            parameters: mean_scale, weight and bias.
            choices: Centre, scale, groups, eps, activation, dropout, `longest` and `masked`.
        """
        center, scale, groups, eps, activation, dropout, _, masked = choices
        mean_scale, weight, bias = parameters
        return cls(
            Segments(ptr, order, x.shape[0], masked=masked),
            Over(center) if center else None,
            Over(scale) if scale else None,
            groups,
            mean_scale,
            weight,
            bias,
            eps,
            ACTIVATIONS[activation],
            dropout,
            seed,
        )


def backward(
    grad_y: Tensor, x: Tensor, equation: Equation
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Compute equations (4) to (6) of docs/maths.md.

    Shapes: `grad_y` and `x` `(rows, channels)`.

    Returns:
        The gradients of x, mean_scale, weight and bias, those of parameters in the accumulation
        dtype; `None` for a parameter that is not there.
    """
    segments, mean_scale = equation.segments, equation.mean_scale
    first = _first_derivative(grad_y, x, equation)
    o_hat, g, d = first.o_hat, first.g, first.d
    grad_x = d - first.centred(_times(d, mean_scale))
    if segments.masked:
        grad_x = torch.where(rows_that_count(segments), grad_x, grad_y.to(d.dtype))
    return (
        grad_x.to(x.dtype),
        None if mean_scale is None else -(first.mean * d).sum(0),
        _sum_like(equation.weight, g * o_hat, segments),
        _sum_like(equation.bias, g, segments),
    )


def double_backward(
    cotangents: Sequence[Tensor | None], grad_y: Tensor, x: Tensor, equation: Equation
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients of `backward`, equations (13) to (16) of docs/maths.md.

    Shapes: `grad_y` and `x` `(rows, channels)`; the cotangents have those of the gradients.

    Args:
        cotangents: Those of the gradients of x, mean_scale, weight and bias; `None` for 0.
        grad_y, x, equation: What `backward` was given.

    Returns:
        The gradients of grad_y, x, mean_scale, weight and bias, those of parameters in the
        accumulation dtype; `None` for a parameter that is not there.
    """
    segments, mean_scale, weight = equation.segments, equation.mean_scale, equation.weight
    first = _first_derivative(grad_y, x, equation)
    o_hat, factor, g, g_hat, d, z = (
        first.o_hat, first.factor, first.g, first.g_hat, first.d, first.z,
    )  # fmt: skip
    u, t, p, q = (None if c is None else c.to(o_hat.dtype) for c in cotangents)
    through_masked = 0 if u is None else u
    u = torch.zeros_like(o_hat) if u is None else counted(u, segments)

    # The tangent of the forward in the direction of the cotangents.
    mean_dot = first.centred(u)
    o_dot = u - _times(mean_dot, mean_scale)
    if t is not None:
        o_dot = o_dot - t * first.mean
    share_dot = first.scaled(o_hat * o_dot)
    o_hat_dot = o_dot if factor is None else factor * (o_dot - o_hat * share_dot)
    z_dot = _times_rows(o_hat_dot, weight, segments)
    if p is not None:
        z_dot = z_dot + of_rows(p, segments, z) * o_hat
    if q is not None:
        z_dot = z_dot + of_rows(q, segments, z)
    slope, curvature = ACTIVATION_DERIVATIVES[equation.activation]
    grad_grad_y = slope(z) * z_dot
    if equation.seed is not None:
        grad_grad_y = drop(grad_grad_y, equation.dropout, equation.seed)

    # What the tangent depends on, from z back to x.
    h = first.grad_y * curvature(z) * z_dot
    of_o_hat = _times_rows(h, weight, segments)
    if p is not None:
        of_o_hat = of_o_hat + of_rows(p, segments, z) * g
    of_o = of_o_hat
    if factor is not None:
        of_o_hat = of_o_hat - factor * (g_hat * share_dot + o_dot * first.share)
        along = first.scaled(g_hat * o_hat_dot + of_o_hat * o_hat)
        of_o = factor * (of_o_hat - o_hat * along)
    through_mean = _times(of_o, mean_scale)
    if t is not None:
        through_mean = through_mean + t * d
    grad_x = of_o - first.centred(through_mean)
    if segments.masked:
        counts = rows_that_count(segments)
        grad_x = torch.where(counts, grad_x, 0)
        grad_grad_y = torch.where(counts, grad_grad_y, through_masked)
    return (
        grad_grad_y.to(grad_y.dtype),
        grad_x.to(x.dtype),
        None if mean_scale is None else -(mean_dot * d + first.mean * of_o).sum(0),
        _sum_like(weight, h * o_hat + g * o_hat_dot, segments),
        _sum_like(equation.bias, h, segments),
    )


class _Standardized(NamedTuple):
    o_hat: Tensor
    """(rows, channels), 0 in masked rows."""
    factor: Tensor | None
    """1/sqrt(s² + eps) at every entry; `None` without a scale."""
    mean: Tensor
    """Per cell of the centre domain."""
    moment: Tensor
    """s², per cell of the scale domain."""


def _standardize(
    x: Tensor, segments: Segments, center: Over | None, scale: Over | None, groups: int,
    mean_scale: Tensor | None, eps: float,
) -> _Standardized:  # fmt: skip
    o = counted(x, segments)  # (rows, channels)
    mean = moment = o.new_zeros((0, 0))
    factor = None
    if center is not None:
        pivot = first_of_cells(o.detach(), segments, center, groups)
        shifted = o - spread(pivot, segments, center, o)
        relative = mean_of_cells(shifted, segments, center, groups)
        mean = pivot + relative
        o = subtract_mean(shifted, pivot, relative, segments, center, mean_scale)
    if scale is not None:
        unit = _units(o.detach(), segments, scale, groups)
        o = o * spread(unit, segments, scale, o)
        squared = mean_of_cells(o * o, segments, scale, groups)
        moment = squared / unit / unit
        gain = torch.rsqrt(squared + eps * unit * unit)
        factor = spread(gain * unit, segments, scale, o)
        o = o * spread(gain, segments, scale, o)
    return _Standardized(o, factor, mean, moment)


def _units(o: Tensor, segments: Segments, scale: Over, groups: int) -> Tensor:
    """1 for most cells; for one of large entries a power of two that makes them about 1.

    The square of such entries, and the derivative of 1/s, would leave float32.
    """
    size = mean_of_cells((o * 2.0**-80).square(), segments, scale, groups).sqrt()
    power = torch.exp2(-80 - size.log2().floor())
    large = (size > 2.0**-60) & (size < math.inf)  # infinite features stay what they are
    return torch.where(large, power, 1.0).to(o.dtype)


class _FirstDerivative(NamedTuple):
    """What the first and the second backward have in common, `(rows, channels)` each."""

    o_hat: Tensor
    factor: Tensor | None
    """1/sqrt(s² + eps) at every entry; `None` without a scale."""
    mean: Tensor
    """Of the cell of the centre domain; 0 without one."""
    z: Tensor
    """The pre-activation."""
    grad_y: Tensor
    """Behind dropout, 0 in masked rows."""
    g: Tensor
    """The gradient of z."""
    g_hat: Tensor
    """The gradient of o_hat."""
    share: Tensor
    """The mean of g_hat o_hat over the cell of the scale domain."""
    d: Tensor
    """The gradient of o."""
    centred: Callable[[Tensor], Tensor]
    """The mean over the cell of the centre domain; 0 without one."""
    scaled: Callable[[Tensor], Tensor]
    """The mean over the cell of the scale domain; 0 without one."""


def _first_derivative(grad_y: Tensor, x: Tensor, equation: Equation) -> _FirstDerivative:
    segments, center, scale, groups, mean_scale, weight, bias, eps, activation, dropout, seed = (
        equation
    )
    o_hat, factor, mean, _ = _standardize(x, segments, center, scale, groups, mean_scale, eps)

    def mean_over(over: Over | None) -> Callable[[Tensor], Tensor]:
        if over is None:
            return torch.zeros_like
        return lambda a: spread(mean_of_cells(a, segments, over, groups), segments, over, a)

    grad_y = counted(grad_y, segments)
    if seed is not None:
        grad_y = drop(grad_y, dropout, seed)
    z = transform(o_hat, segments, weight, bias)
    g = ACTIVATION_DERIVATIVES[activation][0](z) * grad_y
    g_hat = _times_rows(g, weight, segments)
    centred, scaled = mean_over(center), mean_over(scale)
    share = scaled(g_hat * o_hat)
    d = g_hat if factor is None else factor * (g_hat - o_hat * share)
    mean = torch.zeros_like(z) if center is None else spread(mean, segments, center, z)
    return _FirstDerivative(o_hat, factor, mean, z, grad_y, g, g_hat, share, d, centred, scaled)


def rows_that_count(segments: Segments) -> Tensor:
    """Which rows are in a segment, `(rows, 1)`."""
    return (segments.index < segments.num_segments).unsqueeze(1)


def counted(x: Tensor, segments: Segments) -> Tensor:
    """The features in the accumulation dtype, 0 in masked rows."""
    wide = x.to(accumulation_dtype(x.dtype))
    return torch.where(rows_that_count(segments), wide, 0) if segments.masked else wide


def _times(a: Tensor, mean_scale: Tensor | None) -> Tensor:
    return a if mean_scale is None else a * mean_scale.to(a.dtype)


def _times_rows(a: Tensor, weight: Tensor | None, segments: Segments) -> Tensor:
    return a if weight is None else a * of_rows(weight.to(a.dtype), segments, a)


def _sum_like(parameter: Tensor | None, a: Tensor, segments: Segments) -> Tensor | None:
    """Sum over all rows, or over those of each segment where it has a parameter of its own."""
    if parameter is None:
        return None
    return a.sum(0) if parameter.dim() == 1 else sum_of_segments(a, segments)


def subtract_mean(
    shifted: Tensor,
    pivot: Tensor,
    relative: Tensor,
    segments: Segments,
    center: Over,
    mean_scale: Tensor | None,
) -> Tensor:
    """Subtract the scaled mean from entries that are given relative to a pivot of their cell.

    Sums are taken relative to an entry p of the cell, so that their rounding does not grow with
    |mean| / std: o = x - a mean = (x - p) - a (mean - p) + (1 - a) p.

    Args:
        shifted: x - p, `(rows, channels)`.
        pivot, relative: p and the mean relative to it, per cell.
        segments, center: Whose cells.
        mean_scale: a; `None` for 1.
    """
    removed = spread(relative, segments, center, shifted)
    if mean_scale is None:
        return shifted - removed
    share = mean_scale.to(shifted.dtype)
    kept = (1 - share) * spread(pivot, segments, center, shifted)
    return (shifted - share * removed) + kept


def transform(o: Tensor, segments: Segments, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Multiply by the weight and add the bias, of every channel or of every segment's own."""
    if weight is not None:
        o = o * of_rows(weight.to(o.dtype), segments, o)
    if bias is not None:
        o = o + of_rows(bias.to(o.dtype), segments, o)
    return o


def finish(y: Tensor, activation: str | None, dropout: float, seed: Tensor | None) -> Tensor:
    """Apply an activation, then dropout where there is a seed."""
    y = ACTIVATION_FUNCTIONS[activation](y)
    return y if seed is None else drop(y, dropout, seed)


def grouped(x: Tensor, groups: int) -> Tensor:
    """Look at rows of channels as `(rows, groups, channels per group)`."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups)


def first_of_cells(x: Tensor, segments: Segments, over: Over, groups: int) -> Tensor:
    """An entry of every cell: the first row of the segment, the first channel of the group."""
    if over is Over.CHANNELS:
        return grouped(x, groups)[:, :, 0]  # (rows, groups)
    if not x.shape[0]:
        return x.new_zeros((segments.num_segments, x.shape[1] if over is Over.NODES else groups))
    # An empty segment at the end begins past the last row; its pivot is used by no row.
    position = segments.ptr[:-1].clamp(max=x.shape[0] - 1)
    rows = position if segments.order is None else segments.order[position]
    first = x.index_select(0, rows)  # (segments, channels)
    empty = (segments.counts == 0).unsqueeze(1)
    first = first.masked_fill(empty, 0)
    return first if over is Over.NODES else grouped(first, groups)[:, :, 0]


def mean_of_cells(x: Tensor, segments: Segments, over: Over, groups: int) -> Tensor:
    """Mean of x over the entries of every cell; 0 for a cell without entries."""
    if over is not Over.NODES:
        x = grouped(x, groups).mean(2)  # (rows, groups)
    if over is Over.CHANNELS:
        return x
    return sum_of_segments(x, segments) / segments.counts.clamp(min=1).unsqueeze(1)


def sum_of_segments(x: Tensor, segments: Segments) -> Tensor:
    """Sum of the rows of every segment."""
    if _is_whole(segments):
        return x.sum(0, keepdim=True)  # pairwise, where index_add would sum one by one
    # Masked rows go to a segment of their own behind the others.
    zeros = x.new_zeros((segments.num_segments + segments.masked, x.shape[1]))
    return zeros.index_add(0, segments.index, x)[: segments.num_segments]


def spread(statistic: Tensor, segments: Segments, over: Over, like: Tensor) -> Tensor:
    """Give every entry the statistic of its cell: `(rows, channels)`, or broadcastable to it."""
    if over is not Over.CHANNELS and not _is_whole(segments):
        if segments.masked:
            statistic = torch.nn.functional.pad(statistic, (0, 0, 0, 1))
        statistic = statistic.index_select(0, segments.index)
    if over is Over.NODES:
        return statistic
    return widen(statistic, like.shape[1])


def widen(statistic: Tensor, channels: int) -> Tensor:
    """Give every channel the statistic of its group."""
    return statistic.repeat_interleave(channels // statistic.shape[1], dim=1)


def of_rows(parameter: Tensor, segments: Segments, like: Tensor) -> Tensor:
    """A parameter per channel as it is, one per segment as every row's own."""
    return parameter if parameter.dim() == 1 else spread(parameter, segments, Over.NODES, like)


def _is_whole(segments: Segments) -> bool:
    return segments.num_segments == 1 and not segments.masked
