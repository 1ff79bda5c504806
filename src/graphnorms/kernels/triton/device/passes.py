"""The passes over the rows of segments, a tile `(T, R, C)` at a time.

T segments, R rows of each, C channels. A segment's rows begin at position `begin` and are `n`,
both `(T,)`.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import NONE, load_rows, row_at
from graphnorms.kernels.triton.device.epilogue import finish, finish_backward


@triton.jit
def tile_rows(order, begin, n, offset, R: tl.constexpr):
    """The rows `(T, R)` of a tile from an offset in each segment, and which of them there are."""
    position = offset + tl.arange(0, R)  # (R,)
    within = position[None, :] < n[:, None]
    return row_at(order, begin[:, None] + position[None, :], within), within


@triton.jit
def load_tile(base, stride, row, within, channel, inside, ACC: tl.constexpr):
    """The entries of a tile, `(T, R, C)`."""
    mask = within[:, :, None] & inside[None, None, :]
    return load_rows(base, stride, row[:, :, None], channel[None, None, :], mask, ACC)


@triton.jit
def shifted_sum(tile, pivot, within):
    """Sum over the rows of x - p, `(T, C)`."""
    return tl.sum(tl.where(within[:, :, None], tile - pivot[:, None, :], 0.0), axis=1)


@triton.jit
def square_sum(tile, hi, lo, within):
    """Sum over the rows of (x - hi - lo)^2, `(T, C)`."""
    o = (tile - hi[:, None, :]) - lo[:, None, :]
    return tl.sum(tl.where(within[:, :, None], o * o, 0.0), axis=1)


@triton.jit
def sum_beyond(
    total, x, x_stride, order, begin, n, pivot, channel, inside, START: tl.constexpr,
    R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Add the shifted sums of the tiles from an offset on."""
    for offset in range(START, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        tile = load_tile(x, x_stride, row, within, channel, inside, ACC)
        total += shifted_sum(tile, pivot, within)
    return total


@triton.jit
def squares_beyond(
    total, x, x_stride, order, begin, n, hi, lo, channel, inside, START: tl.constexpr,
    R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Add the sums of squares of the tiles from an offset on."""
    for offset in range(START, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        tile = load_tile(x, x_stride, row, within, channel, inside, ACC)
        total += square_sum(tile, hi, lo, within)
    return total


@triton.jit
def write_tile(
    tile, row, within, hi, a, b, residual, residual_stride, y, seed, threshold, gain, channels,
    channel, inside, ACTIVATION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """y = D(f(a (x - hi) + b)) + residual, equation (1)."""
    lane = channel[None, None, :]
    pre = (tile - hi[:, None, :]) * a[:, None, :] + b[:, None, :]
    out = finish(pre, seed, row[:, :, None], lane, threshold, gain, ACTIVATION, ACC)
    if residual is not None:
        out += load_tile(residual, residual_stride, row, within, channel, inside, ACC)
    mask = within[:, :, None] & inside[None, None, :]
    tl.store(y + row[:, :, None] * channels + lane, out.to(y.dtype.element_ty), mask=mask)


@triton.jit
def write_beyond(
    x, x_stride, order, begin, n, hi, a, b, residual, residual_stride, y, seed, threshold, gain,
    channels, channel, inside, START: tl.constexpr, ACTIVATION: tl.constexpr, R: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Write the tiles from an offset on."""
    for offset in range(START, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        tile = load_tile(x, x_stride, row, within, channel, inside, ACC)
        write_tile(
            tile, row, within, hi, a, b, residual, residual_stride, y, seed, threshold, gain,
            channels, channel, inside, ACTIVATION, ACC,
        )  # fmt: skip


@triton.jit
def gradient_tile(
    tile, grad, row, hi, a, b, seed, threshold, gain, channel, ACTIVATION: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """x - hi, and the gradient g before the activation."""
    d = tile - hi[:, None, :]
    g = finish_backward(
        d * a[:, None, :] + b[:, None, :], grad, seed, row[:, :, None], channel[None, None, :],
        threshold, gain, ACTIVATION, ACC,
    )  # fmt: skip
    return d, g


@triton.jit
def gradient_sums(d, g, lo, within):
    """S1 = sum g and S2 = sum g o over the rows, `(T, C)`."""
    g = tl.where(within[:, :, None], g, 0.0)
    products = tl.where(within[:, :, None], g * (d - lo[:, None, :]), 0.0)
    return tl.sum(g, axis=1), tl.sum(products, axis=1)


@triton.jit
def gradient_sums_beyond(
    s1, s2, x, x_stride, grad_y, grad_stride, order, begin, n, hi, lo, a, b, seed, threshold,
    gain, channel, inside, START: tl.constexpr, ACTIVATION: tl.constexpr, R: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """Add the sums of the tiles from an offset on."""
    for offset in range(START, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        tile = load_tile(x, x_stride, row, within, channel, inside, ACC)
        grad = load_tile(grad_y, grad_stride, row, within, channel, inside, ACC)
        d, g = gradient_tile(
            tile, grad, row, hi, a, b, seed, threshold, gain, channel, ACTIVATION, ACC
        )  # fmt: skip
        more1, more2 = gradient_sums(d, g, lo, within)
        s1 += more1
        s2 += more2
    return s1, s2


@triton.jit
def write_gradient_tile(d, g, row, within, a, slope, kappa, grad_x, channels, channel, inside):
    """grad_x = a g - B (x - hi) - kappa, equation (8)."""
    out = (a[:, None, :] * g - slope[:, None, :] * d) - kappa[:, None, :]
    mask = within[:, :, None] & inside[None, None, :]
    at = row[:, :, None] * channels + channel[None, None, :]
    tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=mask)


@triton.jit
def write_gradients_beyond(
    x, x_stride, grad_y, grad_stride, order, begin, n, hi, a, b, slope, kappa, grad_x, seed,
    threshold, gain, channels, channel, inside, START: tl.constexpr, ACTIVATION: tl.constexpr,
    R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write the tiles from an offset on."""
    for offset in range(START, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        tile = load_tile(x, x_stride, row, within, channel, inside, ACC)
        grad = load_tile(grad_y, grad_stride, row, within, channel, inside, ACC)
        d, g = gradient_tile(
            tile, grad, row, hi, a, b, seed, threshold, gain, channel, ACTIVATION, ACC
        )  # fmt: skip
        write_gradient_tile(
            d, g, row, within, a, slope, kappa, grad_x, channels, channel, inside
        )  # fmt: skip


@triton.jit
def pass_rows(
    source, source_stride, residual, residual_stride, out, order, begin, n, channels, channel,
    inside, R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """out = in, and the residual added: what masked rows get."""
    for offset in range(0, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        tile = load_tile(source, source_stride, row, within, channel, inside, ACC)
        if residual is not None:
            tile += load_tile(residual, residual_stride, row, within, channel, inside, ACC)
        mask = within[:, :, None] & inside[None, None, :]
        at = row[:, :, None] * channels + channel[None, None, :]
        tl.store(out + at, tile.to(out.dtype.element_ty), mask=mask)


@triton.jit
def statistics(
    x, x_stride, order, begin, n, pivot, channel, inside, CENTER: tl.constexpr,
    SCALE: tl.constexpr, R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The mean relative to the pivot and the sum of squares about it, `(T, C)`.

    The first tile is held on chip between the two passes; the others, of longer segments, are
    read again.
    """
    row, within = tile_rows(order, begin, n, 0, R)
    tile = load_tile(x, x_stride, row, within, channel, inside, ACC)
    mean = tl.zeros_like(pivot)
    m2 = tl.zeros_like(pivot)
    if CENTER != NONE:
        total = shifted_sum(tile, pivot, within)
        total = sum_beyond(
            total, x, x_stride, order, begin, n, pivot, channel, inside, R, R, ACC
        )  # fmt: skip
        mean = total / tl.maximum(n, 1).to(ACC)[:, None]
    if SCALE != NONE:
        hi = pivot + mean
        lo = mean - (hi - pivot)
        m2 = square_sum(tile, hi, lo, within)
        m2 = squares_beyond(
            m2, x, x_stride, order, begin, n, hi, lo, channel, inside, R, R, ACC
        )  # fmt: skip
    return tile, row, within, mean, m2
