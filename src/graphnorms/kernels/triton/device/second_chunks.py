"""The second derivative over nodes, of segments too long for one program; see `chunks`.

The sums of the parts of a segment are merged by programs of their own for each sum. The programs
that write find the coefficients themselves, from `merged`, so that a launch is saved.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import VARYING, pivots, recall_coefficients
from graphnorms.kernels.triton.device.chunk_parts import (
    long_segment,
    masked_positions,
    part_at,
    parts_of,
    this_chunk,
)
from graphnorms.kernels.triton.device.epilogue import GELU
from graphnorms.kernels.triton.device.second_cells import (
    pivots_of_cotangent,
    second_coefficients,
)
from graphnorms.kernels.triton.device.second_passes import (
    no_sums,
    pass_second_rows,
    second_sums_beyond,
    write_second_beyond,
)
from graphnorms.kernels.triton.device.segments import lanes, store_own, store_shares


@triton.jit
def _store_sums(at, sums, channels, mask, ACTIVATION: tl.constexpr):
    """Store the sums of `second_passes.second_sums` one after another."""
    for number in tl.static_range(0, 10 if ACTIVATION >= GELU else 5):
        tl.store(at + number * channels, sums[number], mask=mask)


@triton.jit
def _load_sums(at, channels, mask, ACTIVATION: tl.constexpr):
    """Load the sums that are stored one after another."""
    sums = (
        tl.load(at, mask=mask, other=0.0),
        tl.load(at + channels, mask=mask, other=0.0),
        tl.load(at + 2 * channels, mask=mask, other=0.0),
        tl.load(at + 3 * channels, mask=mask, other=0.0),
        tl.load(at + 4 * channels, mask=mask, other=0.0),
    )
    if ACTIVATION >= GELU:
        sums += (
            tl.load(at + 5 * channels, mask=mask, other=0.0),
            tl.load(at + 6 * channels, mask=mask, other=0.0),
            tl.load(at + 7 * channels, mask=mask, other=0.0),
            tl.load(at + 8 * channels, mask=mask, other=0.0),
            tl.load(at + 9 * channels, mask=mask, other=0.0),
        )
    return sums


@triton.jit(do_not_specialize=VARYING)
def chunk_second_sums(
    x, grad_y, u, ptr, order, seed, mean_scale, weight, bias, shift, rstd, partial, x_stride,
    grad_stride, u_stride, segments, channels, groups, span, terms, size, steps, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    OWN: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The sums of each part.

    Shapes: `partial` `(chunks, 2 parts, terms, channels)`.
    """
    channel, inside = lanes(span, channels, C)
    for part in tl.static_range(0, 2):
        segment, first, n, low, rows = part_at(ptr, this_chunk(), size, segments, steps, part)
        exists = rows > 0
        pivot = pivots(x, x_stride, order, first, n, channel, inside, CENTER, ACC)
        u_pivot = pivots_of_cotangent(
            u, u_stride, order, first, n, channel, inside, CENTER, ACC
        )  # fmt: skip
        _, hi, lo, _, a, b = recall_coefficients(
            pivot, segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups,
            channel, inside, CENTER, SCALE, OWN, ACC,
        )  # fmt: skip
        sums = second_sums_beyond(
            no_sums(pivot, ACTIVATION), x, x_stride, grad_y, grad_stride, u, u_stride, order, low,
            rows, hi, lo, a, b, u_pivot, seed, threshold, gain, channel, inside, 0, ACTIVATION, R,
            ACC,
        )  # fmt: skip
        at = partial + (this_chunk() * 2 + part) * terms * channels + channel[None, :]
        _store_sums(at, sums, channels, exists[:, None] & inside[None, :], ACTIVATION)


@triton.jit(do_not_specialize=VARYING)
def merge_second_sums(
    ptr, partial, merged, segments, channels, span, terms, size, steps, J: tl.constexpr,
    C: tl.constexpr,
):  # fmt: skip
    """Add up one sum of the parts of the long segment that begins in a chunk, in double.

    Shapes: `merged` `(chunks, terms, channels)`; a chunk's is set where a long segment begins.
    """
    channel, inside = lanes(span, channels, C)
    term = tl.program_id(2)
    _segment, first, n, after = long_segment(ptr, size, segments, steps)
    total = tl.zeros([J, C], tl.float64)
    for number in range(this_chunk(), after, J):
        place, _, there = parts_of(first, n, size, number, J)
        at = partial + (place[:, None] * terms + term) * channels + channel[None, :]
        mask = there[:, None] & inside[None, :]
        total += tl.load(at, mask=mask, other=0.0).to(tl.float64)
    out = tl.sum(total, axis=0).to(merged.dtype.element_ty)
    at = merged + (this_chunk() * terms + term) * channels + channel
    exists = tl.zeros([1], tl.int64) + n > 0
    tl.store(at, out, mask=exists & inside)


@triton.jit(do_not_specialize=VARYING)
def chunk_double_backward(
    x, grad_y, u, grad_grad_y, grad_x, ptr, order, seed, mean_scale, weight, bias, of_mean_scale,
    of_weight, of_bias, shift, rstd, own_weight, own_bias, shares, merged, x_stride, grad_stride,
    u_stride, rows, segments, channels, groups, span, terms, size, steps, first_share, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    OWN: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Equations (13) to (16) for the parts of long segments in a chunk, and for masked rows.

    The gradients of parameters are left where a segment begins; a chunk's share is 0 without one.
    """
    channel, inside = lanes(span, channels, C)
    total_mean_scale = tl.zeros([C], ACC)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    for part in tl.static_range(0, 2):
        segment, first, n, low, n_part = part_at(ptr, this_chunk(), size, segments, steps, part)
        exists = n_part > 0
        pivot = pivots(x, x_stride, order, first, n, channel, inside, CENTER, ACC)
        u_pivot = pivots_of_cotangent(
            u, u_stride, order, first, n, channel, inside, CENTER, ACC
        )  # fmt: skip
        found, hi, lo, spread, a, b = recall_coefficients(
            pivot, segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups,
            channel, inside, CENTER, SCALE, OWN, ACC,
        )  # fmt: skip
        at = merged + (first // size)[:, None] * terms * channels + channel[None, :]
        sums = _load_sums(at, channels, exists[:, None] & inside[None, :], ACTIVATION)
        coefficients, of_parameters = second_coefficients(
            sums, n, segment, exists, pivot, found, lo, spread, a, u_pivot, mean_scale, weight,
            of_mean_scale, of_weight, of_bias, channels, span, channel, inside, CENTER, SCALE,
            OWN, ACTIVATION, ACC,
        )  # fmt: skip
        write_second_beyond(
            x, x_stride, grad_y, grad_stride, u, u_stride, order, low, n_part, hi, a, b, u_pivot,
            coefficients, grad_grad_y, grad_x, seed, threshold, gain, channels, channel, inside,
            0, ACTIVATION, R, ACC,
        )  # fmt: skip
        of_alpha, of_gamma, of_beta = of_parameters
        begins = exists & (low == first)
        store_own(
            own_weight, own_bias, of_gamma, of_beta, segment, n, begins, channels, channel, inside
        )  # fmt: skip
        own = begins[:, None]
        total_mean_scale += tl.sum(tl.where(own, of_alpha, 0.0), axis=0)
        total_weight += tl.sum(tl.where(own, of_gamma, 0.0), axis=0)
        total_bias += tl.sum(tl.where(own, of_beta, 0.0), axis=0)
    if shares is not None:
        store_shares(
            shares, first_share + this_chunk(), channels, channel, inside, total_mean_scale,
            total_weight, total_bias,
        )  # fmt: skip
    if order is not None:
        low, count = masked_positions(ptr, size, rows, segments)
        pass_second_rows(
            u, u_stride, grad_grad_y, grad_x, order, low, count, channels, channel, inside, R, ACC
        )  # fmt: skip
