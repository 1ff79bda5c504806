"""Statistics within rows: each row's group is on chip as a whole, R rows at a time.

A block is a group of channels. The mathematics is that of kernels/cpu/row.inl.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import (
    NONE,
    VARYING,
    first_channel,
    group_mean,
    load_rows,
    row_at,
)
from graphnorms.kernels.triton.device.epilogue import finish, finish_backward
from graphnorms.kernels.triton.device.segments import lanes, store_shares


@triton.jit
def rows_at(
    x, x_stride, ptr, order, first, rows, segments, channel, inside, R: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """R rows by position: entries `(R, C)`; numbers, which there are, which count, `(R, 1)`."""
    position = (first + tl.arange(0, R))[:, None]
    within = position < rows
    counts = within
    if order is not None:
        counts = position < tl.load(ptr + segments)
    row = row_at(order, position, within)
    tile = load_rows(x, x_stride, row, channel[None, :], within & inside[None, :], ACC)
    return tile, row, within, counts


@triton.jit
def centered(tile, pivot, shift):
    """x - m, with m the pivot and the shift as a pair; see `cells`."""
    hi = pivot + shift
    return (tile - hi) - (shift - (hi - pivot))


@triton.jit
def weighted(o, weight, channel, inside):
    """weight o, or o without weights."""
    if weight is not None:
        o = o * tl.load(weight + channel, mask=inside, other=0.0)[None, :]
    return o


@triton.jit
def pre_activation(o, weight, bias, channel, inside):
    """weight o + bias, where they are given."""
    o = weighted(o, weight, channel, inside)
    if bias is not None:
        o = o + tl.load(bias + channel, mask=inside, other=0.0)[None, :]
    return o


@triton.jit
def finish_rows(
    o, tile, row, mask, counts, residual, y, seed, weight, bias, residual_stride, channels,
    channel, inside, threshold, gain, ACTIVATION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Weight, bias and epilogue of `o`, and the residual; stored."""
    pre = pre_activation(o, weight, bias, channel, inside)
    out = finish(pre, seed, row, channel[None, :], threshold, gain, ACTIVATION, ACC)
    out = tl.where(counts, out, tile)
    if residual is not None:
        out += load_rows(residual, residual_stride, row, channel[None, :], mask, ACC)
    at = y + row * channels + channel[None, :]
    tl.store(at, out.to(y.dtype.element_ty), mask=mask)


@triton.jit
def finish_rows_backward(
    o, grad, row, seed, weight, bias, channel, inside, threshold, gain, ACTIVATION: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The gradients of the pre-activation and of `o`."""
    pre = pre_activation(o, weight, bias, channel, inside)
    g = finish_backward(pre, grad, seed, row, channel[None, :], threshold, gain, ACTIVATION, ACC)
    return g, weighted(g, weight, channel, inside)


@triton.jit
def store_row_gradient(grad_x, out, grad, row, mask, counts, channels, channel):
    """Store the gradient of x; in a masked row it is the gradient of y."""
    at = grad_x + row * channels + channel[None, :]
    tl.store(at, tl.where(counts, out, grad).to(grad_x.dtype.element_ty), mask=mask)


@triton.jit
def store_row_shares(shares, channels, channel, inside, grad_weight, grad_bias):
    """Store a program's share of the gradients of weight and bias, if they are wanted."""
    if shares is not None:
        program = tl.program_id(0).to(tl.int64)
        none = tl.zeros_like(grad_weight)
        store_shares(shares, program, channels, channel, inside, none, grad_weight, grad_bias)


@triton.jit(do_not_specialize=VARYING)
def row_forward(
    x, residual, y, ptr, order, seed, weight, bias, shift, rstd, moment, x_stride,
    residual_stride, rows, segments, channels, groups, span, eps: tl.float64, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Everything for R rows of one group; masked rows pass, with statistics of 0."""
    channel, inside = lanes(span, channels, C)
    first = tl.program_id(0).to(tl.int64) * R
    tile, row, within, counts = rows_at(
        x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
    )  # fmt: skip
    mask = within & inside[None, :]
    cell = row * groups + tl.program_id(1)
    o = tile
    if CENTER != NONE:
        pivot = first_channel(tile)
        found = group_mean(tile - pivot, inside, span)
        tl.store(shift + cell, tl.where(counts, found, 0.0), mask=within)
        o = centered(tile, pivot, found)
    if SCALE != NONE:
        second = group_mean(o * o, inside, span)
        spread = 1.0 / tl.sqrt(second + tl.full((), eps, ACC))
        tl.store(rstd + cell, tl.where(counts, spread, 0.0), mask=within)
        if moment is not None:
            tl.store(moment + cell, tl.where(counts, second, 0.0), mask=within)
        o = o * spread
    finish_rows(
        o, tile, row, mask, counts, residual, y, seed, weight, bias, residual_stride, channels,
        channel, inside, threshold, gain, ACTIVATION, ACC,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def row_backward(
    x, grad_y, grad_x, ptr, order, seed, weight, bias, shift, rstd, shares, x_stride,
    grad_stride, rows, segments, channels, groups, span, tiles_per_program, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradients for some tiles of rows, one after another.

    With o^ = (x - m) / s: grad_x = (g^ - <g^> - o^ <g^ o^>) / s, equations (5) and (6).
    """
    channel, inside = lanes(span, channels, C)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    for number in range(tiles_per_program):
        first = (tl.program_id(0).to(tl.int64) * tiles_per_program + number) * R
        tile, row, within, counts = rows_at(
            x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
        )  # fmt: skip
        mask = within & inside[None, :]
        cell = row * groups + tl.program_id(1)
        grad = load_rows(grad_y, grad_stride, row, channel[None, :], mask, ACC)
        o = tile
        if CENTER != NONE:
            found = tl.load(shift + cell, mask=within, other=0.0)
            o = centered(tile, first_channel(tile), found)
        if SCALE != NONE:
            spread = tl.load(rstd + cell, mask=within, other=0.0)
            o = o * spread
        g, grad_o = finish_rows_backward(
            o, grad, row, seed, weight, bias, channel, inside, threshold, gain, ACTIVATION, ACC
        )  # fmt: skip
        counted = mask & counts
        total_weight += tl.sum(tl.where(counted, g * o, 0.0), axis=0)
        total_bias += tl.sum(tl.where(counted, g, 0.0), axis=0)
        if grad_x is not None:
            out = grad_o
            if CENTER != NONE:
                out = out - group_mean(grad_o, inside, span)
            if SCALE != NONE:
                out = (out - o * group_mean(grad_o * o, inside, span)) * spread
            store_row_gradient(grad_x, out, grad, row, mask, counts, channels, channel)
    store_row_shares(shares, channels, channel, inside, total_weight, total_bias)
