"""The passes of a second derivative over the rows of segments, a tile `(T, R, C)` at a time.

The names are those of `second_cells`, the tiles those of `passes`.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.epilogue import GELU, curve, drop
from graphnorms.kernels.triton.device.passes import load_tile, tile_rows


@triton.jit
def no_sums(like, ACTIVATION: tl.constexpr):
    """Sums of no rows, `(T, C)` each."""
    zero = tl.zeros_like(like)
    sums = (zero, zero, zero, zero, zero)
    if ACTIVATION >= GELU:
        sums += (zero, zero, zero, zero, zero)
    return sums


@triton.jit
def load_second(
    x, x_stride, grad_y, grad_stride, u, u_stride, row, within, channel, inside,
    ACC: tl.constexpr,
):  # fmt: skip
    """The entries of x, grad_y and u of a tile."""
    return (
        load_tile(x, x_stride, row, within, channel, inside, ACC),
        load_tile(grad_y, grad_stride, row, within, channel, inside, ACC),
        load_tile(u, u_stride, row, within, channel, inside, ACC),
    )


@triton.jit
def second_tile(
    entries, row, hi, a, b, u_pivot, seed, threshold, gain, channel, ACTIVATION: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """x - hi, u relative to its pivot, g = f' grad_y, k = f'' grad_y, and f'."""
    tile, grad, u = entries
    if seed is not None:
        grad = drop(
            grad, seed, row[:, :, None], channel[None, None, :], threshold, gain, ACC
        )  # fmt: skip
    d = tile - hi[:, None, :]
    slope, bend = curve(d * a[:, None, :] + b[:, None, :], ACTIVATION, ACC)
    return d, u - u_pivot[:, None, :], grad * slope, grad * bend, slope


@triton.jit
def second_sums(sums, terms, lo, within, inside, ACTIVATION: tl.constexpr):
    """Add the sums over the rows of g, g o, u, u o and g u, and of k, k o, k o^2, k u and k u o."""
    d, u, g, k, _ = terms
    mask = within[:, :, None] & inside[None, None, :]
    o = tl.where(mask, d - lo[:, None, :], 0.0)
    u = tl.where(mask, u, 0.0)
    g = tl.where(mask, g, 0.0)
    found = (
        sums[0] + tl.sum(g, axis=1),
        sums[1] + tl.sum(g * o, axis=1),
        sums[2] + tl.sum(u, axis=1),
        sums[3] + tl.sum(u * o, axis=1),
        sums[4] + tl.sum(g * u, axis=1),
    )
    if ACTIVATION >= GELU:
        k = tl.where(mask, k, 0.0)
        ko = k * o
        found += (
            sums[5] + tl.sum(k, axis=1),
            sums[6] + tl.sum(ko, axis=1),
            sums[7] + tl.sum(ko * o, axis=1),
            sums[8] + tl.sum(k * u, axis=1),
            sums[9] + tl.sum(ko * u, axis=1),
        )
    return found


@triton.jit
def second_sums_beyond(
    sums, x, x_stride, grad_y, grad_stride, u, u_stride, order, begin, n, hi, lo, a, b, u_pivot,
    seed, threshold, gain, channel, inside, START: tl.constexpr, ACTIVATION: tl.constexpr,
    R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Add the sums of the tiles from an offset on."""
    for offset in range(START, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        entries = load_second(
            x, x_stride, grad_y, grad_stride, u, u_stride, row, within, channel, inside, ACC
        )  # fmt: skip
        terms = second_tile(
            entries, row, hi, a, b, u_pivot, seed, threshold, gain, channel, ACTIVATION, ACC
        )  # fmt: skip
        sums = second_sums(sums, terms, lo, within, inside, ACTIVATION)
    return sums


@triton.jit
def write_second_tile(
    terms, row, within, a, coefficients, grad_grad_y, grad_x, seed, threshold, gain, channels,
    channel, inside, ACTIVATION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """grad_grad_y = D(f' z') with z' = a u + b + p (x - hi), equation (14), and
    grad_x = a k z' + p g - q u - m (x - hi) - kappa, equation (24)."""
    d, u, g, k, slope = terms
    b, p, q, m, kappa = coefficients
    mask = within[:, :, None] & inside[None, None, :]
    lane = channel[None, None, :]
    at = row[:, :, None] * channels + lane
    tangent = (a[:, None, :] * u + p[:, None, :] * d) + b[:, None, :]
    if grad_grad_y is not None:
        out = slope * tangent
        if seed is not None:
            out = drop(out, seed, row[:, :, None], lane, threshold, gain, ACC)
        tl.store(grad_grad_y + at, out.to(grad_grad_y.dtype.element_ty), mask=mask)
    if grad_x is not None:
        out = p[:, None, :] * g - q[:, None, :] * u
        if ACTIVATION >= GELU:
            out = a[:, None, :] * (k * tangent) + out
        out = out - (m[:, None, :] * d + kappa[:, None, :])
        tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=mask)


@triton.jit
def write_second_beyond(
    x, x_stride, grad_y, grad_stride, u, u_stride, order, begin, n, hi, a, b, u_pivot,
    coefficients, grad_grad_y, grad_x, seed, threshold, gain, channels, channel, inside,
    START: tl.constexpr, ACTIVATION: tl.constexpr, R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Write the tiles from an offset on."""
    for offset in range(START, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        entries = load_second(
            x, x_stride, grad_y, grad_stride, u, u_stride, row, within, channel, inside, ACC
        )  # fmt: skip
        terms = second_tile(
            entries, row, hi, a, b, u_pivot, seed, threshold, gain, channel, ACTIVATION, ACC
        )  # fmt: skip
        write_second_tile(
            terms, row, within, a, coefficients, grad_grad_y, grad_x, seed, threshold, gain,
            channels, channel, inside, ACTIVATION, ACC,
        )  # fmt: skip


@triton.jit
def pass_second_rows(
    u, u_stride, grad_grad_y, grad_x, order, begin, n, channels, channel, inside,
    R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """What masked rows get, which the first backward has passed: grad_grad_y = u, grad_x = 0."""
    for offset in range(0, tl.max(n, axis=0), R):
        row, within = tile_rows(order, begin, n, offset, R)
        mask = within[:, :, None] & inside[None, None, :]
        at = row[:, :, None] * channels + channel[None, None, :]
        if grad_grad_y is not None:
            tile = load_tile(u, u_stride, row, within, channel, inside, ACC)
            tl.store(grad_grad_y + at, tile.to(grad_grad_y.dtype.element_ty), mask=mask)
        if grad_x is not None:
            zero = tl.zeros(at.shape, grad_x.dtype.element_ty)
            tl.store(grad_x + at, zero, mask=mask)
