"""The second derivative of statistics within rows: equations (13) to (16) of docs/maths.md.

A row's group is on chip as a whole, so that every mean is taken when its terms are known. u, p and
q are the cotangents of the gradients of x, weight and bias, h is the gradient of the
pre-activation.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import (
    NONE,
    VARYING,
    first_channel,
    group_mean,
    load_rows,
)
from graphnorms.kernels.triton.device.epilogue import GELU, curve, drop
from graphnorms.kernels.triton.device.rows import (
    centered,
    pre_activation,
    rows_at,
    store_row_shares,
    weighted,
)
from graphnorms.kernels.triton.device.segments import lanes


@triton.jit
def bent_rows(
    o, grad, row, seed, weight, bias, channel, inside, threshold, gain, ACTIVATION: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """g = f' grad_y, k = f'' grad_y and f', at the pre-activation of `o`."""
    if seed is not None:
        grad = drop(grad, seed, row, channel[None, :], threshold, gain, ACC)
    pre = pre_activation(o, weight, bias, channel, inside)
    slope, bend = curve(pre, ACTIVATION, ACC)
    return grad * slope, grad * bend, slope


@triton.jit
def tangent_rows(o, o_dot, weight, of_weight, of_bias, channel, inside):
    """z' = weight o' + p o + q, equation (13)."""
    tangent = weighted(o_dot, weight, channel, inside)
    if of_weight is not None:
        tangent += weighted(o, of_weight, channel, inside)
    if of_bias is not None:
        tangent += tl.load(of_bias + channel, mask=inside, other=0.0)[None, :]
    return tangent


@triton.jit
def through_pre_activation(
    g, k, tangent, weight, of_weight, channel, inside, ACTIVATION: tl.constexpr
):  # fmt: skip
    """h = k z', and weight h + p g, with which equation (15) begins."""
    h = tl.zeros_like(g)
    bar = tl.zeros_like(g)
    if ACTIVATION >= GELU:
        h = k * tangent
        bar = weighted(h, weight, channel, inside)
    if of_weight is not None:
        bar += weighted(g, of_weight, channel, inside)
    return h, bar


@triton.jit
def store_second_rows(
    grad_grad_y, of_x, tangent_y, u, grad_x, row, mask, counts, seed, channels, channel,
    threshold, gain, ACC: tl.constexpr,
):  # fmt: skip
    """Store the gradients of grad_y, before dropout, and of x.

    The first backward passes masked rows on: so does the gradient of grad_y, and that of x is 0.
    """
    at = row * channels + channel[None, :]
    if grad_grad_y is not None:
        if seed is not None:
            tangent_y = drop(tangent_y, seed, row, channel[None, :], threshold, gain, ACC)
        out = tl.where(counts, tangent_y, u)
        tl.store(grad_grad_y + at, out.to(grad_grad_y.dtype.element_ty), mask=mask)
    if grad_x is not None:
        out = tl.where(counts, of_x, 0.0)
        tl.store(grad_x + at, out.to(grad_x.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=VARYING)
def row_double_backward(
    x, grad_y, of_grad_x, grad_grad_y, grad_x, ptr, order, seed, weight, bias, of_weight, of_bias,
    shift, rstd, shares, x_stride, grad_stride, u_stride, rows, segments, channels, groups, span,
    tiles_per_program, threshold, gain: tl.float64, CENTER: tl.constexpr, SCALE: tl.constexpr,
    ACTIVATION: tl.constexpr, R: tl.constexpr, C: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The gradients for some tiles of rows, one after another."""
    channel, inside = lanes(span, channels, C)
    total_weight = tl.zeros([C], ACC)
    total_bias = tl.zeros([C], ACC)
    for number in range(tiles_per_program):
        first = (tl.program_id(0).to(tl.int64) * tiles_per_program + number) * R
        o, row, within, counts = rows_at(
            x, x_stride, ptr, order, first, rows, segments, channel, inside, R, ACC
        )  # fmt: skip
        mask = within & inside[None, :]
        cell = row * groups + tl.program_id(1)
        grad = load_rows(grad_y, grad_stride, row, channel[None, :], mask, ACC)
        u = load_rows(of_grad_x, u_stride, row, channel[None, :], mask, ACC)
        o_dot = u
        if CENTER != NONE:
            found = tl.load(shift + cell, mask=within, other=0.0)
            o = centered(o, first_channel(o), found)
            o_dot = u - first_channel(u)
            o_dot = o_dot - group_mean(o_dot, inside, span)
        tangent = o_dot
        if SCALE != NONE:
            r = tl.load(rstd + cell, mask=within, other=0.0)
            o = o * r
            along = group_mean(o * o_dot, inside, span)
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
            share = group_mean(grad_o * o, inside, span)
            bar = bar - (grad_o * along + o_dot * share) * r
            products = grad_o * tangent + bar * o
            bar = bar - o * group_mean(products, inside, span)
        if CENTER != NONE:
            bar = bar - group_mean(bar, inside, span)
        if SCALE != NONE:
            bar = bar * r
        store_second_rows(
            grad_grad_y, bar, slope * z_dot, u, grad_x, row, mask, counts, seed, channels,
            channel, threshold, gain, ACC,
        )  # fmt: skip
    store_row_shares(shares, channels, channel, inside, total_weight, total_bias)
