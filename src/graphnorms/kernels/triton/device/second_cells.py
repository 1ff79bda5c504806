"""The coefficients of a second derivative over nodes: equations (21) to (24) of docs/maths.md.

As in kernels/cpu/segment_second.inl: u, t, p and q are the cotangents of the gradients of x,
mean_scale, weight and bias, h is the gradient of the pre-activation and k that of its slope. All
is `(T, C)`, as in `cells`.
"""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import (
    BOTH,
    NODES,
    NONE,
    first_channel,
    group_mean,
    load_parameter,
    pivots,
)
from graphnorms.kernels.triton.device.epilogue import GELU


@triton.jit
def pivots_of_cotangent(
    u, u_stride, order, begin, n, channel, inside, CENTER: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """The first entry of u of each cell of the centre; 0 without one."""
    pivot = pivots(u, u_stride, order, begin, n, channel, inside, CENTER, ACC)
    if CENTER == BOTH:
        pivot = tl.where(inside[None, :], first_channel(pivot), 0.0)
    return pivot


@triton.jit
def _parameter(
    parameter, segment, exists, channels, channel, inside, otherwise: tl.constexpr,
    OWN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A weight or a cotangent, `(T, C)` or `(1, C)`; a number where there is none."""
    value = tl.full([1, channel.shape[0]], otherwise, ACC)
    if parameter is not None:
        value = load_parameter(parameter, segment, exists, channels, channel, inside, OWN)
    return value


@triton.jit
def second_coefficients(
    sums, n, segment, exists, pivot, shift, lo, spread, a, u_pivot, mean_scale, weight,
    of_mean_scale, of_weight, of_bias, channels, span, channel, inside, CENTER: tl.constexpr,
    SCALE: tl.constexpr, OWN: tl.constexpr, ACTIVATION: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """From the sums over the rows to the coefficients of the last pass.

    Args:
        sums: Those of `second_passes.second_sums`: with o not yet divided by s, and u relative to
            its pivot.
        pivot, shift, lo, spread, a: From `cells.recall_coefficients`.
        u_pivot: From `pivots_of_cotangent`.
        of_mean_scale, of_weight, of_bias: t, p and q.

    Returns:
        b, p, q, m and kappa of `second_passes.write_second_tile`; and the segments' shares of the
        gradients of mean_scale, weight and bias.
    """
    y = _parameter(weight, segment, exists, channels, channel, inside, 1.0, OWN, ACC)
    p = _parameter(of_weight, segment, exists, channels, channel, inside, 0.0, OWN, ACC)
    q = _parameter(of_bias, segment, exists, channels, channel, inside, 0.0, OWN, ACC)
    count = tl.maximum(n, 1).to(ACC)[:, None]
    r = spread
    # Sums become means, and o becomes o^.
    g = sums[0] / count
    go = sums[1] / count * r
    u = sums[2] / count
    uo = sums[3] / count * r
    gu = sums[4] / count
    # Equation (13): o' = u - e, e relative to the pivot as u is; o is the mean of o^ per channel,
    # which counts only where the centre is over nodes.
    e = tl.zeros_like(u)
    o = tl.zeros_like(u)
    alpha = tl.full([1, channel.shape[0]], 1.0, ACC)
    t = tl.zeros([1, channel.shape[0]], ACC)
    mu = pivot + shift
    if CENTER == NODES:
        e = u
        if mean_scale is not None:
            alpha = tl.load(mean_scale + channel, mask=inside, other=0.0)[None, :]
            if of_mean_scale is not None:
                t = tl.load(of_mean_scale + channel, mask=inside, other=0.0)[None, :]
            e = alpha * u + (alpha - 1.0) * u_pivot + t * mu
            o = r * ((1.0 - alpha) * mu)
    elif CENTER == BOTH:
        e += group_mean(u, inside, span)
    # Equation (21): c, and the mean of g^ o^.
    c = tl.zeros_like(u)
    share = tl.zeros_like(u)
    if SCALE != NONE:
        c = uo - e * o
        share = y * go
    if SCALE == BOTH:
        c = tl.zeros_like(u) + group_mean(c, inside, span)
        share = tl.zeros_like(u) + group_mean(share, inside, span)
    along = p - a * c
    b = q - a * e
    # h is linear in z' = a u + b + along o^, and so are its mean and that of h o^.
    h = tl.zeros_like(u)
    ho = tl.zeros_like(u)
    if ACTIVATION >= GELU:
        k = sums[5] / count
        ko = sums[6] / count * r
        koo = sums[7] / count * r * r
        ku = sums[8] / count
        kuo = sums[9] / count * r
        h = a * ku + b * k + along * ko
        ho = a * kuo + b * ko + along * koo
    # Equation (22)
    tangent = gu - e * g - go * c
    m = tl.zeros_like(u)
    if SCALE != NONE:
        m = r * (y * (tangent - go * c) - share * (uo - e * o)) + y * ho + p * go
    if SCALE == BOTH:
        m = tl.zeros_like(u) + group_mean(m, inside, span)
    # Equation (23)
    removed = y * h + p * g - r * (y * g * c + share * (u - e))
    removed = r * (removed - o * m)
    kappa = tl.zeros_like(u)
    grad_mean_scale = tl.zeros_like(u)
    if CENTER == NODES:
        d = a * g - r * o * share
        kappa = alpha * removed + t * d
        grad_mean_scale = -count * ((u_pivot + u) * d + mu * removed)
    elif CENTER == BOTH:
        kappa += group_mean(removed, inside, span)
    # Equation (24), with o = (x - hi) - lo
    bent = m * (r * r)
    turned = r * r * share
    kappa = kappa - (turned * e + bent * lo)
    coefficients = (b - along * r * lo, along * r, turned, bent, kappa)
    return coefficients, (grad_mean_scale, count * (ho + r * tangent), count * h)
