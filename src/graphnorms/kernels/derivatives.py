"""The first and second derivatives of the normalization in closed form, in plain torch.

They are functions of the arguments of a call, not derivatives with respect to saved tensors, so
that a path from one input to another is counted once; see `graphnorms.kernels.autograd`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels import bounded_functions
from graphnorms.kernels.domain_cells import (
    Cells,
    cells_of_center,
    cells_of_scale,
    of_rows,
    sum_of_segments,
    weights_of,
)
from graphnorms.kernels.dropout import drop
from graphnorms.kernels.point import Call, Parameters
from graphnorms.kernels.reference import counted, rows_that_count, standardize, transform
from graphnorms.segments import Segments


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
"""The first and the second derivative of each activation."""


def backward(
    grad_y: Tensor, x: Tensor, parameters: Parameters, call: Call
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Compute equations (4) to (6) of docs/maths.md, or (18) at a point with a function.

    Shapes: `grad_y` and `x` `(rows, channels)`.

    Returns:
        The gradients of x, mean_scale, weight and bias, those of parameters in the accumulation
        dtype; `None` for a parameter that is not there.
    """
    if call.point.function is not None:
        return _bounded_backward(grad_y, x, parameters, call)
    segments, (mean_scale, weight, bias) = call.segments, parameters
    first = _first_derivative(grad_y, x, parameters, call)
    o_hat, g, d = first.o_hat, first.g, first.d
    grad_x = d - first.centred(_times(d, mean_scale))
    if segments.masked:
        grad_x = torch.where(rows_that_count(segments), grad_x, grad_y.to(d.dtype))
    return (
        grad_x.to(x.dtype),
        None if mean_scale is None else -(first.mean * d).sum(0),
        _sum_like(weight, g * o_hat, segments),
        _sum_like(bias, g, segments),
    )


def double_backward(
    cotangents: Sequence[Tensor | None],
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    call: Call,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients of `backward`, equations (13) to (16) of docs/maths.md, or (19) and
    (20) at a point with a function.

    Shapes: `grad_y` and `x` `(rows, channels)`; the cotangents have the shapes of the gradients.

    Args:
        cotangents: Cotangents of the gradients of x, mean_scale, weight and bias; `None` for 0.
        grad_y, x, parameters, call: The arguments of `backward`.

    Returns:
        The gradients of grad_y, x, mean_scale, weight and bias, those of parameters in the
        accumulation dtype; `None` for a parameter that is not there.
    """
    if call.point.function is not None:
        return _bounded_double_backward(cotangents, grad_y, x, parameters, call)
    segments, (mean_scale, weight, bias) = call.segments, parameters
    first = _first_derivative(grad_y, x, parameters, call)
    o_hat, factor, z = first.o_hat, first.factor, first.z
    g, g_hat, d = first.g, first.g_hat, first.d
    u, t, p, q = (None if c is None else c.to(o_hat.dtype) for c in cotangents)
    through_masked = 0 if u is None else u
    u = torch.zeros_like(o_hat) if u is None else counted(u, segments)

    # The tangent of the forward in the direction of the cotangents.
    mean_dot = first.centred(u)
    o_dot = u - _times(mean_dot, mean_scale)
    if t is not None:
        o_dot = o_dot - t * first.mean
    share_dot = first.summed(first.weighed(o_hat * o_dot))
    o_hat_dot = o_dot if factor is None else factor * (o_dot - o_hat * share_dot)
    z_dot = _times_rows(o_hat_dot, weight, segments)
    if p is not None:
        z_dot = z_dot + of_rows(p, segments) * o_hat
    if q is not None:
        z_dot = z_dot + of_rows(q, segments)
    slope, curvature = ACTIVATION_DERIVATIVES[call.activation]
    grad_grad_y = slope(z) * z_dot
    if call.seed is not None:
        grad_grad_y = drop(grad_grad_y, call.dropout, call.seed)

    # The gradient of this tangent, from z back to x.
    h = first.grad_y * curvature(z) * z_dot
    of_o_hat = _times_rows(h, weight, segments)
    if p is not None:
        of_o_hat = of_o_hat + of_rows(p, segments) * g
    of_o = of_o_hat
    if factor is not None:
        of_o_hat = of_o_hat - factor * (g_hat * share_dot + first.weighed(o_dot) * first.share)
        along = first.summed(g_hat * o_hat_dot + of_o_hat * o_hat)
        of_o = factor * (of_o_hat - first.weighed(o_hat) * along)
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
        _sum_like(bias, h, segments),
    )


class _FirstDerivative(NamedTuple):
    """Quantities shared by the first and the second backward, `(rows, channels)` each."""

    o_hat: Tensor
    factor: Tensor | None
    """1/sqrt(s² + eps) at every entry; `None` without a scale."""
    mean: Tensor
    """The mean of the cell of the centre domain; 0 without one."""
    z: Tensor
    """The pre-activation."""
    grad_y: Tensor
    """The gradient after dropout, 0 in masked rows."""
    g: Tensor
    """The gradient of z."""
    g_hat: Tensor
    """The gradient of o_hat."""
    share: Tensor
    """g_hat o_hat, summed over the cell of the scale domain."""
    d: Tensor
    """The gradient of o."""
    centred: Callable[[Tensor], Tensor]
    """The mean over the cell of the centre domain; 0 without one."""
    summed: Callable[[Tensor], Tensor]
    """The mean over the cell of the scale domain, of a layout over its rows and the sum over its
    columns; 0 without one."""
    weighed: Callable[[Tensor], Tensor]
    """What enters this mean times its weight in s², which is not 1 in a layout."""


def _first_derivative(
    grad_y: Tensor, x: Tensor, parameters: Parameters, call: Call
) -> _FirstDerivative:
    segments, center, scale = call.segments, cells_of_center(call), cells_of_scale(call)
    mean_scale, weight, bias = parameters
    o_hat, factor, mean, _ = standardize(x, call, mean_scale)

    def mean_over(cells: Cells | None) -> Callable[[Tensor], Tensor]:
        if cells is None:
            return torch.zeros_like
        return lambda a: cells.spread(cells.mean(a), a.shape[1])

    grad_y = counted(grad_y, segments)
    if call.seed is not None:
        grad_y = drop(grad_y, call.dropout, call.seed)
    z = transform(o_hat, segments, weight, bias)
    g = ACTIVATION_DERIVATIVES[call.activation][0](z) * grad_y
    g_hat = _times_rows(g, weight, segments)
    weights = None if scale is None else weights_of(scale)
    centred, summed = mean_over(center), mean_over(None if weights is None else weights.summed)
    weighed = torch.zeros_like if weights is None else weights.weighed
    share = summed(g_hat * o_hat)
    d = g_hat if factor is None else factor * (g_hat - weighed(o_hat) * share)
    mean = torch.zeros_like(z) if center is None else center.spread(mean, z.shape[1])
    return _FirstDerivative(
        o_hat, factor, mean, z, grad_y, g, g_hat, share, d, centred, summed, weighed
    )


class _BoundedFirst(NamedTuple):
    """Quantities shared by both backwards of a function, `(rows, channels)` each."""

    x: Tensor
    """The features, 0 in masked rows."""
    v: Tensor
    """a x + s."""
    value: Tensor
    """φ(v)."""
    slope: Tensor
    """φ'(v)."""
    z: Tensor
    """The pre-activation."""
    grad_y: Tensor
    """The gradient after dropout, 0 in masked rows."""
    g: Tensor
    """The gradient of z."""
    e: Tensor
    """The gradient of v."""


def _bounded_first(grad_y: Tensor, x: Tensor, parameters: Parameters, call: Call) -> _BoundedFirst:
    segments, (given, weight, bias) = call.segments, parameters
    function = bounded_functions.FUNCTIONS[str(call.point.function)]
    x, grad_y = counted(x, segments), counted(grad_y, segments)
    v = bounded_functions.argument(x, given)
    value = function.value(v)
    slope = function.slope(v, value)
    if call.seed is not None:
        grad_y = drop(grad_y, call.dropout, call.seed)
    z = transform(value, segments, weight, bias)
    g = ACTIVATION_DERIVATIVES[call.activation][0](z) * grad_y
    e = slope * _times_rows(g, weight, segments)
    return _BoundedFirst(x, v, value, slope, z, grad_y, g, e)


def _bounded_backward(
    grad_y: Tensor, x: Tensor, parameters: Parameters, call: Call
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    segments, (given, weight, bias) = call.segments, parameters
    first = _bounded_first(grad_y, x, parameters, call)
    grad_x = _times_slope(first.e, given)
    if segments.masked:
        grad_x = torch.where(rows_that_count(segments), grad_x, grad_y.to(grad_x.dtype))
    return (
        grad_x.to(x.dtype),
        _of_argument(given, first.x * first.e, first.e),
        _sum_like(weight, first.g * first.value, segments),
        _sum_like(bias, first.g, segments),
    )


def _bounded_double_backward(
    cotangents: Sequence[Tensor | None],
    grad_y: Tensor,
    x: Tensor,
    parameters: Parameters,
    call: Call,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    segments, (given, weight, bias) = call.segments, parameters
    first = _bounded_first(grad_y, x, parameters, call)
    u, t, p, q = (None if c is None else c.to(first.z.dtype) for c in cotangents)
    through_masked = 0 if u is None else u
    u = torch.zeros_like(first.z) if u is None else counted(u, segments)

    # The tangent of the forward in the direction of the cotangents.
    v_dot = _times_slope(u, given)
    if t is not None:
        v_dot = v_dot + t[0] * first.x
        v_dot = v_dot if t.shape[0] == 1 else v_dot + t[1]
    value_dot = first.slope * v_dot
    z_dot = _times_rows(value_dot, weight, segments)
    if p is not None:
        z_dot = z_dot + of_rows(p, segments) * first.value
    if q is not None:
        z_dot = z_dot + of_rows(q, segments)
    slope, curvature = ACTIVATION_DERIVATIVES[call.activation]
    grad_grad_y = slope(first.z) * z_dot
    if call.seed is not None:
        grad_grad_y = drop(grad_grad_y, call.dropout, call.seed)

    # The gradient of this tangent, from z back to x.
    h = first.grad_y * curvature(first.z) * z_dot
    of_value = _times_rows(h, weight, segments)
    if p is not None:
        of_value = of_value + of_rows(p, segments) * first.g
    bend = bounded_functions.FUNCTIONS[str(call.point.function)].curvature(first.v, first.value)
    of_v = first.slope * of_value + _times_rows(first.g, weight, segments) * bend * v_dot
    grad_x = _times_slope(of_v, given)
    if t is not None:
        grad_x = grad_x + t[0] * first.e
    if segments.masked:
        counts = rows_that_count(segments)
        grad_x = torch.where(counts, grad_x, 0)
        grad_grad_y = torch.where(counts, grad_grad_y, through_masked)
    return (
        grad_grad_y.to(grad_y.dtype),
        grad_x.to(x.dtype),
        _of_argument(given, first.x * of_v + u * first.e, of_v),
        _sum_like(weight, h * first.value + first.g * value_dot, segments),
        _sum_like(bias, h, segments),
    )


def _times_slope(a: Tensor, given: Tensor | None) -> Tensor:
    return a if given is None else a * given[0].to(a.dtype)


def _of_argument(given: Tensor | None, of_slope: Tensor, of_shift: Tensor) -> Tensor | None:
    """Sum the gradients of a, or of a and s, over all entries."""
    if given is None:
        return None
    return torch.stack([part.sum() for part in (of_slope, of_shift)[: given.shape[0]]])


def _times(a: Tensor, mean_scale: Tensor | None) -> Tensor:
    return a if mean_scale is None else a * mean_scale.to(a.dtype)


def _times_rows(a: Tensor, weight: Tensor | None, segments: Segments) -> Tensor:
    return a if weight is None else a * of_rows(weight.to(a.dtype), segments)


def _sum_like(parameter: Tensor | None, a: Tensor, segments: Segments) -> Tensor | None:
    """Sum over all rows, or per segment if the parameter is per segment."""
    if parameter is None:
        return None
    return a.sum(0) if parameter.dim() == 1 else sum_of_segments(a, segments)
