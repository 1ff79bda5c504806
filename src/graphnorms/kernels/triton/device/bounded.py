"""A bounded function of each entry in place of statistics, R rows at a time.

It computes equations (17) to (20) of docs/maths.md, as kernels/cpu/bounded.inl does.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import VARYING, load_rows
from graphnorms.kernels.triton.device.rows import (
    finish_rows,
    finish_rows_backward,
    rows_at,
    store_row_gradient,
    store_row_shares,
    weighted,
)
from graphnorms.kernels.triton.device.second_rows import (
    bent_rows,
    store_second_rows,
    tangent_rows,
    through_pre_activation,
)
from graphnorms.kernels.triton.device.segments import lanes

# Numbered as in `graphnorms.kernels.point.FUNCTIONS`.
TANH: tl.constexpr = tl.constexpr(1)


@triton.jit
def _exponential_quotient(r):
    """(exp(r) - 1) / r near 0, by its Taylor series."""
    p = r * (1 / 6227020800) + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    return p * r + 1.0


@triton.jit
def _bounded(v, FUNCTION: tl.constexpr):
    """A function and its slope."""
    if FUNCTION == TANH:
        # With t = exp(-2 |v|): (1 - t) / (1 + t), where 1 - t does not cancel near 0.
        r = tl.abs(v) * -2.0
        t = tl.exp(r)
        distance = tl.where(r > -0.35, -r * _exponential_quotient(r), 1.0 - t)
        share = 1.0 / (1.0 + t)
        value = tl.where(v < 0, -distance, distance) * share
        slope = 4.0 * t * share * share
    else:
        value = tl.erf(v)
        slope = tl.exp(v * -v) * 1.12837916709551257390
    return value, slope


@triton.jit
def _bend(v, value, FUNCTION: tl.constexpr):
    """The second derivative of a function over its slope."""
    return (value if FUNCTION == TANH else v) * -2.0


@triton.jit
def _store_sums(
    shares, sums, channels, channel, inside, grad_weight, grad_bias, grad_slope, grad_shift
):  # fmt: skip
    """Store a program's sums of gradients: of weight and bias `(C,)`, of a and s a number each."""
    store_row_shares(shares, channels, channel, inside, grad_weight, grad_bias)
    if sums is not None:
        program = tl.program_id(0).to(tl.int64)
        at = sums + (program * tl.num_programs(1) + tl.program_id(1)) * 2
        tl.store(at, tl.sum(grad_slope, axis=0))
        tl.store(at + 1, tl.sum(grad_shift, axis=0))


@triton.jit
def _argument(argument, COUNT: tl.constexpr, ACC: tl.constexpr):
    """The slope a and the shift s, which are 1 and 0 unless given."""
    a = tl.full((), 1.0, ACC)
    s = tl.full((), 0.0, ACC)
    if COUNT > 0:
        a = tl.load(argument)
    if COUNT > 1:
        s = tl.load(argument + 1)
    return a, s


@triton.jit(do_not_specialize=VARYING)
def bounded_forward(
    x, residual, y, ptr, order, seed, argument, weight, bias, x_stride, residual_stride, rows,
    segments, channels, span, threshold, gain: tl.float64, FUNCTION: tl.constexpr,
    COUNT: tl.constexpr, ACTIVATION: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Everything for R rows of one block of channels; masked rows pass."""
    channel, inside = lanes(span, channels, C)
    first = tl.program_id(0).to(tl.int64) * R
    tile, row, within, counts = rows_at(
        x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
    )  # fmt: skip
    a, s = _argument(argument, COUNT, ACC)
    value, _ = _bounded(tile * a + s, FUNCTION)
    finish_rows(
        value, tile, row, within & inside[None, :], counts, residual, y, seed, weight, bias,
        residual_stride, channels, channel, inside, threshold, gain, ACTIVATION, ACC,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def bounded_backward(
    x, grad_y, grad_x, ptr, order, seed, argument, weight, bias, shares, sums, x_stride,
    grad_stride, rows, segments, channels, span, tiles_per_program, threshold,
    gain: tl.float64, FUNCTION: tl.constexpr, COUNT: tl.constexpr, ACTIVATION: tl.constexpr,
    R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradients for some tiles of rows, one after another.

    With e = f'(a x + s) weight g: grad_x = a e, and the shares of grad_a and grad_s, `sums`, are
    the sums of x e and of e.
    """
    channel, inside = lanes(span, channels, C)
    a, s = _argument(argument, COUNT, ACC)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    total_slope = tl.zeros([C], ACC)
    total_shift = tl.zeros([C], ACC)
    for number in range(tiles_per_program):
        first = (tl.program_id(0).to(tl.int64) * tiles_per_program + number) * R
        tile, row, within, counts = rows_at(
            x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
        )  # fmt: skip
        mask = within & inside[None, :]
        grad = load_rows(grad_y, grad_stride, row, channel[None, :], mask, ACC)
        value, slope = _bounded(tile * a + s, FUNCTION)
        g, grad_value = finish_rows_backward(
            value, grad, row, seed, weight, bias, channel, inside, threshold, gain, ACTIVATION,
            ACC,
        )  # fmt: skip
        counted = mask & counts
        total_weight += tl.sum(tl.where(counted, g * value, 0.0), axis=0)
        total_bias += tl.sum(tl.where(counted, g, 0.0), axis=0)
        e = grad_value * slope
        total_slope += tl.sum(tl.where(counted, tile * e, 0.0), axis=0)
        total_shift += tl.sum(tl.where(counted, e, 0.0), axis=0)
        if grad_x is not None:
            store_row_gradient(grad_x, e * a, grad, row, mask, counts, channels, channel)
    _store_sums(
        shares, sums, channels, channel, inside, total_weight, total_bias, total_slope,
        total_shift,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def bounded_double_backward(
    x, grad_y, of_grad_x, grad_grad_y, grad_x, ptr, order, seed, argument, weight, bias,
    of_argument, of_weight, of_bias, shares, sums, x_stride, grad_stride, u_stride, rows,
    segments, channels, span, tiles_per_program, threshold, gain: tl.float64,
    FUNCTION: tl.constexpr, COUNT: tl.constexpr, ACTIVATION: tl.constexpr, R: tl.constexpr,
    C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Equations (19) and (20) for some tiles of rows, one after another.

    The cotangents of the gradients of a and s are `of_argument`.
    """
    channel, inside = lanes(span, channels, C)
    a, s = _argument(argument, COUNT, ACC)
    t = tl.full((), 0.0, ACC)
    q = tl.full((), 0.0, ACC)
    if of_argument is not None:
        t, q = _argument(of_argument, COUNT, ACC)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    total_slope = tl.zeros([C], ACC)
    total_shift = tl.zeros([C], ACC)
    for number in range(tiles_per_program):
        first = (tl.program_id(0).to(tl.int64) * tiles_per_program + number) * R
        tile, row, within, counts = rows_at(
            x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
        )  # fmt: skip
        mask = within & inside[None, :]
        grad = load_rows(grad_y, grad_stride, row, channel[None, :], mask, ACC)
        u = load_rows(of_grad_x, u_stride, row, channel[None, :], mask, ACC)
        v = tile * a + s
        value, rise = _bounded(v, FUNCTION)
        g, k, slope = bent_rows(
            value, grad, row, seed, weight, bias, channel, inside, threshold, gain, ACTIVATION,
            ACC,
        )  # fmt: skip
        # Equation (19)
        v_dot = a * u + t * tile + q
        tangent = rise * v_dot
        z_dot = tangent_rows(value, tangent, weight, of_weight, of_bias, channel, inside)
        # Equation (20)
        h, bar = through_pre_activation(
            g, k, z_dot, weight, of_weight, channel, inside, ACTIVATION
        )  # fmt: skip
        e = rise * weighted(g, weight, channel, inside)
        of_v = rise * bar + e * _bend(v, value, FUNCTION) * v_dot
        counted = mask & counts
        total_weight += tl.sum(tl.where(counted, h * value + g * tangent, 0.0), axis=0)
        total_bias += tl.sum(tl.where(counted, h, 0.0), axis=0)
        total_slope += tl.sum(tl.where(counted, tile * of_v + u * e, 0.0), axis=0)
        total_shift += tl.sum(tl.where(counted, of_v, 0.0), axis=0)
        store_second_rows(
            grad_grad_y, a * of_v + t * e, slope * z_dot, u, grad_x, row, mask, counts, seed,
            channels, channel, threshold, gain, ACC,
        )  # fmt: skip
    _store_sums(
        shares, sums, channels, channel, inside, total_weight, total_bias, total_slope,
        total_shift,
    )  # fmt: skip
