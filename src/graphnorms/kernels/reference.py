"""Plain torch: the definition of the normalization.

Every other backend must agree with this one. It supports any floating dtype and device, is twice
differentiable and works under `torch.func`. It is written for precision and readability, not for
speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels import bounded_functions
from graphnorms.kernels.dropout import drop
from graphnorms.kernels.point import NO_PARAMETERS, Call, Over, Parameters, accumulation_dtype
from graphnorms.segments import Segments

ACTIVATION_FUNCTIONS: Final[dict[str | None, Callable[[Tensor], Tensor]]] = {
    None: lambda y: y,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
}


def segment_normalize(
    x: Tensor,
    call: Call,
    parameters: Parameters = NO_PARAMETERS,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the one equation; see `graphnorms.kernels.primitive.segment_normalize`.

    Returns:
        y, the mean per cell of the centre domain, and the second moment per cell of the scale
        domain; the last two in the accumulation dtype, with gradients.
    """
    segments, (mean_scale, weight, bias) = call.segments, parameters
    standard = standardize(x, call, mean_scale)
    y = transform(standard.o_hat, segments, weight, bias)
    y = finish(y, call.activation, call.dropout, call.seed)
    if segments.masked:
        y = torch.where(rows_that_count(segments), y, x.to(y.dtype))
    if residual is not None:
        y = y + residual.to(y.dtype)
    return y.to(x.dtype), standard.mean, standard.moment


class Standardized(NamedTuple):
    """The features before weight and bias, and the statistics."""

    o_hat: Tensor
    """(rows, channels), 0 in masked rows."""
    factor: Tensor | None
    """1/sqrt(s² + eps) at every entry; `None` without a scale."""
    mean: Tensor
    """Per cell of the centre domain."""
    moment: Tensor
    """s², per cell of the scale domain."""


def standardize(x: Tensor, call: Call, mean_scale: Tensor | None) -> Standardized:
    """Subtract the scaled mean and divide by the root of the second moment, or apply the
    function."""
    segments, (center, scale, _, groups, function) = call.segments, call.point
    o = counted(x, segments)  # (rows, channels)
    mean = moment = o.new_zeros((0, 0))
    factor = None
    if function is not None:
        value = bounded_functions.FUNCTIONS[function].value
        return Standardized(value(bounded_functions.argument(o, mean_scale)), None, mean, moment)
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
        gain = torch.rsqrt(squared + call.eps * unit * unit)
        factor = spread(gain * unit, segments, scale, o)
        o = o * spread(gain, segments, scale, o)
    return Standardized(o, factor, mean, moment)


def _units(o: Tensor, segments: Segments, scale: Over, groups: int) -> Tensor:
    """Return 1 per cell, or for large entries the power of two that scales them to about 1.

    Their squares, and the derivative of 1/s, would overflow float32.
    """
    size = mean_of_cells((o * 2.0**-80).square(), segments, scale, groups).sqrt()
    power = torch.exp2(-80 - size.log2().floor())
    large = (size > 2.0**-60) & (size < math.inf)  # do not rescale infinite features
    return torch.where(large, power, 1.0).to(o.dtype)


def rows_that_count(segments: Segments) -> Tensor:
    """Return which rows are in a segment, `(rows, 1)`."""
    return (segments.index < segments.num_segments).unsqueeze(1)


def counted(x: Tensor, segments: Segments) -> Tensor:
    """Convert features to the accumulation dtype, with 0 in masked rows."""
    wide = x.to(accumulation_dtype(x.dtype))
    return torch.where(rows_that_count(segments), wide, 0) if segments.masked else wide


def subtract_mean(
    shifted: Tensor,
    pivot: Tensor,
    relative: Tensor,
    segments: Segments,
    center: Over,
    mean_scale: Tensor | None,
) -> Tensor:
    """Subtract the scaled mean from entries relative to a pivot of their cell.

    Sums are relative to an entry p of the cell, so that rounding errors do not grow with |mean| /
    std: o = x - a mean = (x - p) - a (mean - p) + (1 - a) p.

    Args:
        shifted: x - p, `(rows, channels)`.
        pivot, relative: p and the mean relative to it, per cell.
        segments, center: The cells.
        mean_scale: a; `None` for 1.
    """
    removed = spread(relative, segments, center, shifted)
    if mean_scale is None:
        return shifted - removed
    share = mean_scale.to(shifted.dtype)
    kept = (1 - share) * spread(pivot, segments, center, shifted)
    return (shifted - share * removed) + kept


def transform(o: Tensor, segments: Segments, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Multiply by the weight and add the bias, per channel or per segment and channel."""
    if weight is not None:
        o = o * of_rows(weight.to(o.dtype), segments, o)
    if bias is not None:
        o = o + of_rows(bias.to(o.dtype), segments, o)
    return o


def finish(y: Tensor, activation: str | None, dropout: float, seed: Tensor | None) -> Tensor:
    """Apply an activation, then dropout if there is a seed."""
    y = ACTIVATION_FUNCTIONS[activation](y)
    return y if seed is None else drop(y, dropout, seed)


def grouped(x: Tensor, groups: int) -> Tensor:
    """View rows as `(rows, groups, channels per group)`."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups)


def first_of_cells(x: Tensor, segments: Segments, over: Over, groups: int) -> Tensor:
    """Return an entry of every cell: the first row of the segment, the first channel of the
    group."""
    if over is Over.CHANNELS:
        return grouped(x, groups)[:, :, 0]  # (rows, groups)
    if not x.shape[0]:
        return x.new_zeros((segments.num_segments, x.shape[1] if over is Over.NODES else groups))
    # An empty segment at the end begins past the last row; no row uses its pivot.
    position = segments.ptr[:-1].clamp(max=x.shape[0] - 1)
    rows = position if segments.order is None else segments.order[position]
    first = x.index_select(0, rows)  # (segments, channels)
    empty = (segments.counts == 0).unsqueeze(1)
    first = first.masked_fill(empty, 0)
    return first if over is Over.NODES else grouped(first, groups)[:, :, 0]


def mean_of_cells(x: Tensor, segments: Segments, over: Over, groups: int) -> Tensor:
    """Compute the mean over the entries of every cell; 0 for a cell without entries."""
    if over is not Over.NODES:
        x = grouped(x, groups).mean(2)  # (rows, groups)
    if over is Over.CHANNELS:
        return x
    return sum_of_segments(x, segments) / segments.counts.clamp(min=1).unsqueeze(1)


def sum_of_segments(x: Tensor, segments: Segments) -> Tensor:
    """Sum the rows of every segment."""
    if _is_whole(segments):
        return x.sum(0, keepdim=True)  # pairwise summation, unlike index_add
    # Masked rows form an extra segment at the end.
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
    """Return a parameter per channel unchanged; expand one per segment to the rows."""
    return parameter if parameter.dim() == 1 else spread(parameter, segments, Over.NODES, like)


def _is_whole(segments: Segments) -> bool:
    return segments.num_segments == 1 and not segments.masked
