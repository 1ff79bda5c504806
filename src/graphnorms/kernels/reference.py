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
from graphnorms.kernels.domain_cells import Cells, cells_of_center, cells_of_scale, of_rows
from graphnorms.kernels.dropout import drop
from graphnorms.kernels.point import NO_PARAMETERS, Call, Parameters, accumulation_dtype
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
    function, center, scale = call.point.function, cells_of_center(call), cells_of_scale(call)
    o = counted(x, call.segments)  # (rows, channels)
    channels = o.shape[1]
    mean = moment = o.new_zeros((0, 0))
    factor = None
    if function is not None:
        value = bounded_functions.FUNCTIONS[function].value
        return Standardized(value(bounded_functions.argument(o, mean_scale)), None, mean, moment)
    if center is not None:
        pivot = center.first(o.detach())
        shifted = o - center.spread(pivot, channels)
        relative = center.mean(shifted)
        mean = pivot + relative
        o = subtract_mean(shifted, pivot, relative, center, mean_scale)
    if scale is not None:
        unit = _units(o.detach(), scale)
        o = o * scale.spread(unit, channels)
        squared = scale.mean(o * o)
        moment = squared / unit / unit
        gain = torch.rsqrt(squared + call.eps * unit * unit)
        factor = scale.spread(gain * unit, channels)
        o = o * scale.spread(gain, channels)
    return Standardized(o, factor, mean, moment)


def _units(o: Tensor, scale: Cells) -> Tensor:
    """Return 1 per cell, or for large entries the power of two that scales them to about 1.

    Their squares, and the derivative of 1/s, would overflow float32.
    """
    size = scale.mean((o * 2.0**-80).square()).sqrt()
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
    center: Cells,
    mean_scale: Tensor | None,
) -> Tensor:
    """Subtract the scaled mean from entries relative to a pivot of their cell.

    Sums are relative to an entry p of the cell, so that rounding errors do not grow with |mean| /
    std: o = x - a mean = (x - p) - a (mean - p) + (1 - a) p.

    Args:
        shifted: x - p, `(rows, channels)`.
        pivot, relative: p and the mean relative to it, per cell.
        center: The cells.
        mean_scale: a; `None` for 1.
    """
    removed = center.spread(relative, shifted.shape[1])
    if mean_scale is None:
        return shifted - removed
    share = mean_scale.to(shifted.dtype)
    kept = (1 - share) * center.spread(pivot, shifted.shape[1])
    return (shifted - share * removed) + kept


def transform(o: Tensor, segments: Segments, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Multiply by the weight and add the bias, per channel or per segment and channel."""
    if weight is not None:
        o = o * of_rows(weight.to(o.dtype), segments)
    if bias is not None:
        o = o + of_rows(bias.to(o.dtype), segments)
    return o


def finish(y: Tensor, activation: str | None, dropout: float, seed: Tensor | None) -> Tensor:
    """Apply an activation, then dropout if there is a seed."""
    y = ACTIVATION_FUNCTIONS[activation](y)
    return y if seed is None else drop(y, dropout, seed)
