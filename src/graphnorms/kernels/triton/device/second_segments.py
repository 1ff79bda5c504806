"""The second derivative over nodes, of segments that one program can do; see `segments`."""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import VARYING, pivots, recall_coefficients
from graphnorms.kernels.triton.device.passes import tile_rows
from graphnorms.kernels.triton.device.second_cells import (
    pivots_of_cotangent,
    second_coefficients,
)
from graphnorms.kernels.triton.device.second_passes import (
    load_second,
    no_sums,
    second_sums,
    second_sums_beyond,
    second_tile,
    write_second_beyond,
    write_second_tile,
)
from graphnorms.kernels.triton.device.segments import (
    lanes,
    segments_from,
    store_own,
    store_shares,
)


@triton.jit(do_not_specialize=VARYING)
def segment_double_backward(
    x, grad_y, u, grad_grad_y, grad_x, ptr, order, seed, mean_scale, weight, bias, of_mean_scale,
    of_weight, of_bias, shift, rstd, own_weight, own_bias, shares, x_stride, grad_stride,
    u_stride, segments, channels, groups, span, limit, tiles_per_program, threshold,
    gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr, ACTIVATION: tl.constexpr,
    OWN: tl.constexpr, T: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Equations (13) to (16) for the segments of some tiles, one after another.

    One pass sums and one writes; the first tile of rows is held on chip in between. Shares and
    gradients of parameters of every segment's own are those of `segments.segment_backward`.
    """
    channel, inside = lanes(span, channels, C)
    total_mean_scale = tl.zeros([C], ACC)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    for number in range(tiles_per_program):
        first = (tl.program_id(0).to(tl.int64) * tiles_per_program + number) * T
        segment, begin, n, exists = segments_from(ptr, first, segments, limit, T)
        pivot = pivots(x, x_stride, order, begin, n, channel, inside, CENTER, ACC)
        u_pivot = pivots_of_cotangent(
            u, u_stride, order, begin, n, channel, inside, CENTER, ACC
        )  # fmt: skip
        found, hi, lo, spread, a, b = recall_coefficients(
            pivot, segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups,
            channel, inside, CENTER, SCALE, OWN, ACC,
        )  # fmt: skip
        row, within = tile_rows(order, begin, n, 0, R)
        entries = load_second(
            x, x_stride, grad_y, grad_stride, u, u_stride, row, within, channel, inside, ACC
        )  # fmt: skip
        terms = second_tile(
            entries, row, hi, a, b, u_pivot, seed, threshold, gain, channel, ACTIVATION, ACC
        )  # fmt: skip
        sums = second_sums(no_sums(pivot, ACTIVATION), terms, lo, within, inside, ACTIVATION)
        sums = second_sums_beyond(
            sums, x, x_stride, grad_y, grad_stride, u, u_stride, order, begin, n, hi, lo, a, b,
            u_pivot, seed, threshold, gain, channel, inside, R, ACTIVATION, R, ACC,
        )  # fmt: skip
        coefficients, of_parameters = second_coefficients(
            sums, n, segment, exists, pivot, found, lo, spread, a, u_pivot, mean_scale, weight,
            of_mean_scale, of_weight, of_bias, channels, span, channel, inside, CENTER, SCALE,
            OWN, ACTIVATION, ACC,
        )  # fmt: skip
        write_second_tile(
            terms, row, within, a, coefficients, grad_grad_y, grad_x, seed, threshold, gain,
            channels, channel, inside, ACTIVATION, ACC,
        )  # fmt: skip
        write_second_beyond(
            x, x_stride, grad_y, grad_stride, u, u_stride, order, begin, n, hi, a, b, u_pivot,
            coefficients, grad_grad_y, grad_x, seed, threshold, gain, channels, channel, inside,
            R, ACTIVATION, R, ACC,
        )  # fmt: skip
        of_alpha, of_gamma, of_beta = of_parameters
        store_own(
            own_weight, own_bias, of_gamma, of_beta, segment, n, exists, channels, channel, inside
        )  # fmt: skip
        # Segments that are not done here have sums of 0, times statistics that may be anything.
        done = (n > 0)[:, None]
        total_mean_scale += tl.sum(tl.where(done, of_alpha, 0.0), axis=0)
        total_weight += tl.sum(tl.where(done, of_gamma, 0.0), axis=0)
        total_bias += tl.sum(tl.where(done, of_beta, 0.0), axis=0)
    if shares is not None:
        store_shares(
            shares, tl.program_id(0).to(tl.int64), channels, channel, inside, total_mean_scale,
            total_weight, total_bias,
        )  # fmt: skip
