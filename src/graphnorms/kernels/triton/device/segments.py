"""Statistics over nodes, of segments that one program can do: T at a time, one block of channels.

Segments longer than `limit` are left to `chunks`. A block is `span` channels: a group's where a
domain is BOTH.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import (
    VARYING,
    backward_coefficients,
    forward_coefficients,
    pivots,
    recall_coefficients,
)
from graphnorms.kernels.triton.device.passes import (
    gradient_sums,
    gradient_sums_beyond,
    gradient_tile,
    load_tile,
    statistics,
    tile_rows,
    write_beyond,
    write_gradient_tile,
    write_gradients_beyond,
    write_tile,
)


@triton.jit
def lanes(span, channels, C: tl.constexpr):
    """The channels of this program's block, `(C,)`, and which of them there are."""
    lane = tl.arange(0, C)
    channel = tl.program_id(1) * span + lane
    return channel, (lane < span) & (channel < channels)


@triton.jit
def segments_from(ptr, first, segments, limit, T: tl.constexpr):
    """T segments: their numbers, first positions and numbers of rows, and which are done here."""
    segment = first + tl.arange(0, T)
    exists = segment < segments
    begin = tl.load(ptr + segment, mask=exists, other=0)
    n = tl.load(ptr + segment + 1, mask=exists, other=0) - begin
    exists = exists & (n <= limit)
    return segment, begin, tl.where(exists, n, 0), exists


@triton.jit(do_not_specialize=VARYING)
def segment_forward(
    x, residual, y, ptr, order, seed, mean_scale, weight, bias, shift, rstd, moment, x_stride,
    residual_stride, segments, channels, groups, span, limit, eps: tl.float64, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    OWN: tl.constexpr, T: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Everything for T segments: statistics, result, and what the backward needs."""
    channel, inside = lanes(span, channels, C)
    first = tl.program_id(0).to(tl.int64) * T
    segment, begin, n, exists = segments_from(ptr, first, segments, limit, T)
    pivot = pivots(x, x_stride, order, begin, n, channel, inside, CENTER, ACC)
    tile, row, within, mean, m2 = statistics(
        x, x_stride, order, begin, n, pivot, channel, inside, CENTER, SCALE, R, ACC
    )  # fmt: skip
    hi, a, b = forward_coefficients(
        mean, m2, n, pivot, segment, exists, mean_scale, weight, bias, shift, rstd, moment,
        channels, groups, span, channel, inside, eps, CENTER, SCALE, OWN, ACC,
    )  # fmt: skip
    write_tile(
        tile, row, within, hi, a, b, residual, residual_stride, y, seed, threshold, gain,
        channels, channel, inside, ACTIVATION, ACC,
    )  # fmt: skip
    write_beyond(
        x, x_stride, order, begin, n, hi, a, b, residual, residual_stride, y, seed, threshold,
        gain, channels, channel, inside, R, ACTIVATION, R, ACC,
    )  # fmt: skip


@triton.jit
def store_shares(
    shares, number, channels, channel, inside, grad_mean_scale, grad_weight, grad_bias
):  # fmt: skip
    """Store a program's share of the gradients of mean_scale, weight and bias, `(C,)` each."""
    at = shares + number * 3 * channels + channel
    tl.store(at, grad_mean_scale, mask=inside)
    tl.store(at + channels, grad_weight, mask=inside)
    tl.store(at + 2 * channels, grad_bias, mask=inside)


@triton.jit
def store_own(
    own_weight, own_bias, grad_weight, grad_bias, segment, n, exists, channels, channel, inside
):  # fmt: skip
    """Store the gradients of weights and biases of segments' own, `(T, C)`; 0 without rows."""
    at = segment[:, None] * channels + channel[None, :]
    stored = exists[:, None] & inside[None, :]
    done = (n > 0)[:, None]
    if own_weight is not None:
        tl.store(own_weight + at, tl.where(done, grad_weight, 0.0), mask=stored)
    if own_bias is not None:
        tl.store(own_bias + at, tl.where(done, grad_bias, 0.0), mask=stored)


@triton.jit(do_not_specialize=VARYING)
def segment_backward(
    x, grad_y, grad_x, ptr, order, seed, mean_scale, weight, bias, shift, rstd, own_weight,
    own_bias, shares, x_stride, grad_stride, segments, channels, groups, span, limit,
    tiles_per_program, threshold, gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr,
    ACTIVATION: tl.constexpr, OWN: tl.constexpr, T: tl.constexpr, R: tl.constexpr,
    C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Everything for the segments of some tiles, one after another.

    The shares of the parameters' gradients are added up on chip; those of parameters of every
    segment's own (`own_weight`, `own_bias`) are results already.
    """
    channel, inside = lanes(span, channels, C)
    total_mean_scale = tl.zeros([C], ACC)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    for number in range(tiles_per_program):
        first = (tl.program_id(0).to(tl.int64) * tiles_per_program + number) * T
        segment, begin, n, exists = segments_from(ptr, first, segments, limit, T)
        pivot = pivots(x, x_stride, order, begin, n, channel, inside, CENTER, ACC)
        found, hi, lo, spread, a, b = recall_coefficients(
            pivot, segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups,
            channel, inside, CENTER, SCALE, OWN, ACC,
        )  # fmt: skip
        row, within = tile_rows(order, begin, n, 0, R)
        tile = load_tile(x, x_stride, row, within, channel, inside, ACC)
        grad = load_tile(grad_y, grad_stride, row, within, channel, inside, ACC)
        d, g = gradient_tile(
            tile, grad, row, hi, a, b, seed, threshold, gain, channel, ACTIVATION, ACC
        )  # fmt: skip
        s1, s2 = gradient_sums(d, g, lo, within)
        s1, s2 = gradient_sums_beyond(
            s1, s2, x, x_stride, grad_y, grad_stride, order, begin, n, hi, lo, a, b, seed,
            threshold, gain, channel, inside, R, ACTIVATION, R, ACC,
        )  # fmt: skip
        slope, kappa, of_mean_scale, of_weight, of_bias = backward_coefficients(
            s1, s2, n, pivot, found, lo, spread, a, mean_scale, span, channel, inside, CENTER,
            SCALE, ACC,
        )  # fmt: skip
        if grad_x is not None:
            write_gradient_tile(
                d, g, row, within, a, slope, kappa, grad_x, channels, channel, inside
            )  # fmt: skip
            write_gradients_beyond(
                x, x_stride, grad_y, grad_stride, order, begin, n, hi, a, b, slope, kappa,
                grad_x, seed, threshold, gain, channels, channel, inside, R, ACTIVATION, R, ACC,
            )  # fmt: skip
        store_own(
            own_weight, own_bias, of_weight, of_bias, segment, n, exists, channels, channel,
            inside,
        )  # fmt: skip
        # Segments that are not done here have sums of 0, times statistics that may be anything.
        done = (n > 0)[:, None]
        total_mean_scale += tl.sum(tl.where(done, of_mean_scale, 0.0), axis=0)
        total_weight += tl.sum(tl.where(done, of_weight, 0.0), axis=0)
        total_bias += tl.sum(tl.where(done, of_bias, 0.0), axis=0)
    if shares is not None:
        store_shares(
            shares, tl.program_id(0).to(tl.int64), channels, channel, inside, total_mean_scale,
            total_weight, total_bias,
        )  # fmt: skip
