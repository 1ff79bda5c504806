"""Statistics within rows whose cells are ranges of columns of any width: those of a `Layout`.

A program holds whole rows, R at a time, and goes over the cells one after another. The table has
three rows: the cell of the centre of each column, -1 for none, the cell of the scale, and by what
the square of an entry is divided in s^2.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import NONE, VARYING, load_rows
from graphnorms.kernels.triton.device.rows import (
    centered,
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


@triton.jit
def _cells(table, which: tl.constexpr, columns, channel, inside):
    """The cell of each column, `(1, C)`, -1 for none; and which columns are the first of one."""
    at = table + which * columns + channel
    cell = tl.load(at, mask=inside, other=-1)
    before = tl.load(at - 1, mask=inside & (channel > 0), other=-1)
    return cell[None, :], ((cell != before) & (cell >= 0))[None, :]


@triton.jit
def _weights(table, columns, channel, inside, ACC: tl.constexpr):
    """The weight of a square in s^2, `(1, C)`."""
    return 1.0 / tl.load(table + 2 * columns + channel, mask=inside, other=1).to(ACC)[None, :]


@triton.jit
def _sums(values, cell, number):
    """The sum over its cell for every column; 0 for a column of none."""
    out = tl.zeros_like(values)
    for k in range(number):
        here = cell == k
        total = tl.sum(tl.where(here, values, 0.0), axis=1)[:, None]
        out = tl.where(here, total, out)
    return out


@triton.jit
def _means(values, cell, number):
    """The mean over its cell for every column; 0 for a column of none."""
    ones = tl.full([1, values.shape[1]], 1.0, values.dtype)
    return _sums(values, cell, number) / tl.maximum(_sums(ones, cell, number), 1.0)


@triton.jit
def _pivots(values, cell, begins, number):
    """The first entry of its cell for every column."""
    return _sums(tl.where(begins, values, 0.0), cell, number)


@triton.jit
def _statistics(statistics, row, cell, number, within, ACC: tl.constexpr):
    """Statistics of the cells of rows, for every column; 0 for a column of none."""
    return load_rows(statistics, number, row, cell, within & (cell >= 0), ACC)


@triton.jit(do_not_specialize=VARYING)
def ragged_forward(
    x, residual, y, ptr, order, seed, table, weight, bias, shift, rstd, moment, x_stride,
    residual_stride, rows, segments, channels, span, centers, scales, eps: tl.float64, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Everything for R rows; masked rows pass, with statistics of 0."""
    channel, inside = lanes(span, channels, C)
    first = tl.program_id(0).to(tl.int64) * R
    tile, row, within, counts = rows_at(
        x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
    )  # fmt: skip
    o = tile
    if CENTER != NONE:
        cell, begins = _cells(table, 0, channels, channel, inside)
        pivot = _pivots(tile, cell, begins, centers)
        found = _means(tile - pivot, cell, centers)
        at = shift + row * centers + cell
        tl.store(at, tl.where(counts, found, 0.0), mask=within & begins)
        o = centered(tile, pivot, found)
    if SCALE != NONE:
        cell, begins = _cells(table, 1, channels, channel, inside)
        second = _sums(o * o * _weights(table, channels, channel, inside, ACC), cell, scales)
        spread = 1.0 / tl.sqrt(second + tl.full((), eps, ACC))
        at = row * scales + cell
        tl.store(rstd + at, tl.where(counts, spread, 0.0), mask=within & begins)
        if moment is not None:
            tl.store(moment + at, tl.where(counts, second, 0.0), mask=within & begins)
        o = o * spread
    finish_rows(
        o, tile, row, within & inside[None, :], counts, residual, y, seed, weight, bias,
        residual_stride, channels, channel, inside, threshold, gain, ACTIVATION, ACC,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def ragged_backward(
    x, grad_y, grad_x, ptr, order, seed, table, weight, bias, shift, rstd, shares, x_stride,
    grad_stride, rows, segments, channels, span, centers, scales, tiles_per_program, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradients for some tiles of rows, one after another: equations (5) and (6), weighted."""
    channel, inside = lanes(span, channels, C)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    center_cell, center_begins = _cells(table, 0, channels, channel, inside)
    scale_cell, _ = _cells(table, 1, channels, channel, inside)
    weights = _weights(table, channels, channel, inside, ACC)
    for number in range(tiles_per_program):
        first = (tl.program_id(0).to(tl.int64) * tiles_per_program + number) * R
        o, row, within, counts = rows_at(
            x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
        )  # fmt: skip
        mask = within & inside[None, :]
        grad = load_rows(grad_y, grad_stride, row, channel[None, :], mask, ACC)
        if CENTER != NONE:
            pivot = _pivots(o, center_cell, center_begins, centers)
            o = centered(o, pivot, _statistics(shift, row, center_cell, centers, within, ACC))
        if SCALE != NONE:
            r = _statistics(rstd, row, scale_cell, scales, within, ACC)
            o = o * r
        g, out = finish_rows_backward(
            o, grad, row, seed, weight, bias, channel, inside, threshold, gain, ACTIVATION, ACC
        )  # fmt: skip
        counted = mask & counts
        total_weight += tl.sum(tl.where(counted, g * o, 0.0), axis=0)
        total_bias += tl.sum(tl.where(counted, g, 0.0), axis=0)
        if grad_x is not None:
            if SCALE != NONE:
                out = (out - o * weights * _sums(out * o, scale_cell, scales)) * r
            if CENTER != NONE:
                out = out - _means(out, center_cell, centers)
            store_row_gradient(grad_x, out, grad, row, mask, counts, channels, channel)
    store_row_shares(shares, channels, channel, inside, total_weight, total_bias)


@triton.jit(do_not_specialize=VARYING)
def ragged_double_backward(
    x, grad_y, of_grad_x, grad_grad_y, grad_x, ptr, order, seed, table, weight, bias, of_weight,
    of_bias, shift, rstd, shares, x_stride, grad_stride, u_stride, rows, segments, channels, span,
    centers, scales, tiles_per_program, threshold, gain: tl.float64, CENTER: tl.constexpr,
    SCALE: tl.constexpr, ACTIVATION: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Equations (13) to (16), weighted, for some tiles of rows; see `second_rows`."""
    channel, inside = lanes(span, channels, C)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    center_cell, center_begins = _cells(table, 0, channels, channel, inside)
    scale_cell, _ = _cells(table, 1, channels, channel, inside)
    weights = _weights(table, channels, channel, inside, ACC)
    for number in range(tiles_per_program):
        first = (tl.program_id(0).to(tl.int64) * tiles_per_program + number) * R
        o, row, within, counts = rows_at(
            x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
        )  # fmt: skip
        mask = within & inside[None, :]
        grad = load_rows(grad_y, grad_stride, row, channel[None, :], mask, ACC)
        u = load_rows(of_grad_x, u_stride, row, channel[None, :], mask, ACC)
        o_dot = u
        if CENTER != NONE:
            pivot = _pivots(o, center_cell, center_begins, centers)
            o = centered(o, pivot, _statistics(shift, row, center_cell, centers, within, ACC))
            o_dot = u - _pivots(u, center_cell, center_begins, centers)
            o_dot = o_dot - _means(o_dot, center_cell, centers)
        tangent = o_dot
        if SCALE != NONE:
            r = _statistics(rstd, row, scale_cell, scales, within, ACC)
            o = o * r
            along = _sums(weights * o * o_dot, scale_cell, scales)
            tangent = (o_dot - o * along) * r
        g, k, slope = bent_rows(
            o, grad, row, seed, weight, bias, channel, inside, threshold, gain, ACTIVATION, ACC
        )  # fmt: skip
        z_dot = tangent_rows(o, tangent, weight, of_weight, of_bias, channel, inside)
        h, bar = through_pre_activation(
            g, k, z_dot, weight, of_weight, channel, inside, ACTIVATION
        )  # fmt: skip
        counted = mask & counts
        total_weight += tl.sum(tl.where(counted, h * o + g * tangent, 0.0), axis=0)
        total_bias += tl.sum(tl.where(counted, h, 0.0), axis=0)
        if SCALE != NONE:
            grad_o = weighted(g, weight, channel, inside)
            share = _sums(grad_o * o, scale_cell, scales)
            bar = bar - (grad_o * along + weights * o_dot * share) * r
            products = grad_o * tangent + bar * o
            bar = (bar - weights * o * _sums(products, scale_cell, scales)) * r
        if CENTER != NONE:
            bar = bar - _means(bar, center_cell, centers)
        store_second_rows(
            grad_grad_y, bar, slope * z_dot, u, grad_x, row, mask, counts, seed, channels,
            channel, threshold, gain, ACC,
        )  # fmt: skip
    store_row_shares(shares, channels, channel, inside, total_weight, total_bias)
