"""Statistics over nodes, of segments too long for one program: a chunk of positions each.

See `chunk_parts` for what a chunk has of a segment.
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
from graphnorms.kernels.triton.device.chunk_parts import (
    long_segment,
    masked_positions,
    part_at,
    parts_of,
    this_chunk,
)
from graphnorms.kernels.triton.device.passes import (
    gradient_sums_beyond,
    pass_rows,
    statistics,
    write_beyond,
    write_gradients_beyond,
)
from graphnorms.kernels.triton.device.segments import lanes, store_own, store_shares


@triton.jit(do_not_specialize=VARYING)
def chunk_statistics(
    x, ptr, order, partial, x_stride, segments, channels, span, size, steps,
    CENTER: tl.constexpr, SCALE: tl.constexpr, R: tl.constexpr, C: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The mean relative to the segment's pivot and the squares about it, of each part.

    Shapes: `partial` `(chunks, 2 parts, 2, channels)`.
    """
    channel, inside = lanes(span, channels, C)
    for part in tl.static_range(0, 2):
        _, first, n, low, rows = part_at(ptr, this_chunk(), size, segments, steps, part)
        pivot = pivots(x, x_stride, order, first, n, channel, inside, CENTER, ACC)
        _, _, _, mean, m2 = statistics(
            x, x_stride, order, low, rows, pivot, channel, inside, CENTER, SCALE, R, ACC
        )  # fmt: skip
        at = partial + (this_chunk() * 2 + part) * 2 * channels + channel[None, :]
        stored = (rows > 0)[:, None] & inside[None, :]
        tl.store(at, mean, mask=stored)
        tl.store(at + channels, m2, mask=stored)


@triton.jit(do_not_specialize=VARYING)
def merge_statistics(
    x, ptr, order, mean_scale, weight, bias, shift, rstd, moment, partial, x_stride, segments,
    channels, groups, span, size, steps, eps: tl.float64, CENTER: tl.constexpr,
    SCALE: tl.constexpr, OWN: tl.constexpr, J: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Merge the parts of the long segment that begins in a chunk, equation (3)."""
    channel, inside = lanes(span, channels, C)
    segment, first, n, after = long_segment(ptr, size, segments, steps)
    count = tl.maximum(n, 1).to(tl.float64)
    shares = tl.zeros([J, C], tl.float64)
    for number in range(this_chunk(), after, J):
        place, rows, there = parts_of(first, n, size, number, J)
        mask = there[:, None] & inside[None, :]
        at = partial + place[:, None] * 2 * channels + channel[None, :]
        found = tl.load(at, mask=mask, other=0.0).to(tl.float64)
        share = tl.where(there, rows, 0).to(tl.float64) / count
        shares += share[:, None] * found
    mean = tl.sum(shares, axis=0)
    squares = tl.zeros([J, C], tl.float64)
    for number in range(this_chunk(), after, J):
        place, rows, there = parts_of(first, n, size, number, J)
        mask = there[:, None] & inside[None, :]
        at = partial + place[:, None] * 2 * channels + channel[None, :]
        found = tl.load(at, mask=mask, other=0.0).to(tl.float64)
        within = tl.load(at + channels, mask=mask, other=0.0).to(tl.float64)
        distance = found - mean[None, :]
        within += rows.to(tl.float64)[:, None] * distance * distance
        squares += tl.where(mask, within, 0.0)
    m2 = tl.sum(squares, axis=0)
    one = tl.zeros([1], tl.int64)
    exists = one + n > 0
    pivot = pivots(x, x_stride, order, one + first, one + n, channel, inside, CENTER, ACC)
    forward_coefficients(
        mean.to(ACC)[None, :], m2.to(ACC)[None, :], one + n, pivot, one + segment, exists,
        mean_scale, weight, bias, shift, rstd, moment, channels, groups, span, channel, inside,
        eps, CENTER, SCALE, OWN, ACC,
    )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def chunk_forward(
    x, residual, y, ptr, order, seed, mean_scale, weight, bias, shift, rstd, x_stride,
    residual_stride, rows, segments, channels, groups, span, size, steps, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    OWN: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The result for the parts of long segments in a chunk, and for masked rows."""
    channel, inside = lanes(span, channels, C)
    for part in tl.static_range(0, 2):
        segment, first, n, low, n_part = part_at(ptr, this_chunk(), size, segments, steps, part)
        exists = n_part > 0
        pivot = pivots(x, x_stride, order, first, n, channel, inside, CENTER, ACC)
        _, hi, _, _, a, b = recall_coefficients(
            pivot, segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups,
            channel, inside, CENTER, SCALE, OWN, ACC,
        )  # fmt: skip
        write_beyond(
            x, x_stride, order, low, n_part, hi, a, b, residual, residual_stride, y, seed,
            threshold, gain, channels, channel, inside, 0, ACTIVATION, R, ACC,
        )  # fmt: skip
    if order is not None:
        low, count = masked_positions(ptr, size, rows, segments)
        pass_rows(
            x, x_stride, residual, residual_stride, y, order, low, count, channels, channel,
            inside, R, ACC,
        )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def chunk_gradients(
    x, grad_y, ptr, order, seed, mean_scale, weight, bias, shift, rstd, partial, x_stride,
    grad_stride, segments, channels, groups, span, size, steps, threshold, gain: tl.float64,
    CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr, OWN: tl.constexpr,
    R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """S1 and S2 of each part; `partial` as in `chunk_statistics`."""
    channel, inside = lanes(span, channels, C)
    for part in tl.static_range(0, 2):
        segment, first, n, low, n_part = part_at(ptr, this_chunk(), size, segments, steps, part)
        exists = n_part > 0
        pivot = pivots(x, x_stride, order, first, n, channel, inside, CENTER, ACC)
        _, hi, lo, _, a, b = recall_coefficients(
            pivot, segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups,
            channel, inside, CENTER, SCALE, OWN, ACC,
        )  # fmt: skip
        s1 = tl.zeros_like(pivot)
        s2 = tl.zeros_like(pivot)
        s1, s2 = gradient_sums_beyond(
            s1, s2, x, x_stride, grad_y, grad_stride, order, low, n_part, hi, lo, a, b, seed,
            threshold, gain, channel, inside, 0, ACTIVATION, R, ACC,
        )  # fmt: skip
        at = partial + (this_chunk() * 2 + part) * 2 * channels + channel[None, :]
        stored = exists[:, None] & inside[None, :]
        tl.store(at, s1, mask=stored)
        tl.store(at + channels, s2, mask=stored)


@triton.jit(do_not_specialize=VARYING)
def merge_gradients(
    x, ptr, order, mean_scale, weight, bias, shift, rstd, own_weight, own_bias, shares, partial,
    coefficients, x_stride, segments, channels, groups, span, size, steps, first_share,
    CENTER: tl.constexpr, SCALE: tl.constexpr, OWN: tl.constexpr, J: tl.constexpr,
    C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """From the sums of the long segment that begins in a chunk to B and kappa.

    Its share of the parameters' gradients is 0 where none begins.

    Shapes: `coefficients` `(chunks, 2, channels)`.
    """
    channel, inside = lanes(span, channels, C)
    segment, first, n, after = long_segment(ptr, size, segments, steps)
    sums = tl.zeros([J, C], tl.float64)
    products = tl.zeros([J, C], tl.float64)
    for number in range(this_chunk(), after, J):
        place, _, there = parts_of(first, n, size, number, J)
        mask = there[:, None] & inside[None, :]
        at = partial + place[:, None] * 2 * channels + channel[None, :]
        sums += tl.load(at, mask=mask, other=0.0).to(tl.float64)
        products += tl.load(at + channels, mask=mask, other=0.0).to(tl.float64)
    s1 = tl.sum(sums, axis=0)
    s2 = tl.sum(products, axis=0)
    one = tl.zeros([1], tl.int64)
    exists = one + n > 0
    pivot = pivots(x, x_stride, order, one + first, one + n, channel, inside, CENTER, ACC)
    found, _, lo, spread, a, _ = recall_coefficients(
        pivot, one + segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups,
        channel, inside, CENTER, SCALE, OWN, ACC,
    )  # fmt: skip
    slope, kappa, of_mean_scale, of_weight, of_bias = backward_coefficients(
        s1.to(ACC)[None, :], s2.to(ACC)[None, :], one + n, pivot, found, lo, spread, a,
        mean_scale, span, channel, inside, CENTER, SCALE, ACC,
    )  # fmt: skip
    stored = exists[:, None] & inside[None, :]
    at = coefficients + this_chunk() * 2 * channels + channel[None, :]
    tl.store(at, slope, mask=stored)
    tl.store(at + channels, kappa, mask=stored)
    store_own(
        own_weight, own_bias, of_weight, of_bias, one + segment, one + n, exists, channels,
        channel, inside,
    )  # fmt: skip
    if shares is not None:
        store_shares(
            shares, first_share + this_chunk(), channels, channel, inside,
            tl.sum(tl.where(stored, of_mean_scale, 0.0), axis=0),
            tl.sum(tl.where(stored, of_weight, 0.0), axis=0),
            tl.sum(tl.where(stored, of_bias, 0.0), axis=0),
        )  # fmt: skip


@triton.jit(do_not_specialize=VARYING)
def chunk_backward(
    x, grad_y, grad_x, ptr, order, seed, mean_scale, weight, bias, shift, rstd, coefficients,
    x_stride, grad_stride, rows, segments, channels, groups, span, size, steps, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    OWN: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradient of x for the parts of long segments in a chunk, and for masked rows."""
    channel, inside = lanes(span, channels, C)
    for part in tl.static_range(0, 2):
        segment, first, n, low, n_part = part_at(ptr, this_chunk(), size, segments, steps, part)
        exists = n_part > 0
        pivot = pivots(x, x_stride, order, first, n, channel, inside, CENTER, ACC)
        _, hi, _, _, a, b = recall_coefficients(
            pivot, segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups,
            channel, inside, CENTER, SCALE, OWN, ACC,
        )  # fmt: skip
        at = coefficients + (first // size)[:, None] * 2 * channels + channel[None, :]
        stored = exists[:, None] & inside[None, :]
        slope = tl.load(at, mask=stored, other=0.0)
        kappa = tl.load(at + channels, mask=stored, other=0.0)
        write_gradients_beyond(
            x, x_stride, grad_y, grad_stride, order, low, n_part, hi, a, b, slope, kappa, grad_x,
            seed, threshold, gain, channels, channel, inside, 0, ACTIVATION, R, ACC,
        )  # fmt: skip
    if order is not None:
        low, count = masked_positions(ptr, size, rows, segments)
        pass_rows(
            grad_y, grad_stride, None, 0, grad_x, order, low, count, channels, channel, inside,
            R, ACC,
        )  # fmt: skip
