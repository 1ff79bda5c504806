"""The statistics of segments, and the coefficients of the passes that follow from them.

The mathematics is that of docs/maths.md, the same as in kernels/cpu/segment_parts.inl. All is
`(T, C)`: segments by channels; a block of channels is one group where statistics are over BOTH,
so that nothing is summed across blocks. Lanes outside the block hold 0.
"""

import triton
import triton.language as tl

# Numbered as in `graphnorms.kernels.point.Over`.
NONE: tl.constexpr = tl.constexpr(0)
NODES: tl.constexpr = tl.constexpr(1)
BOTH: tl.constexpr = tl.constexpr(3)

# Numbers that differ from batch to batch: triton would compile anew for those that are 1, or
# divisible by 16, and gain nothing.
VARYING = (
    "rows",
    "segments",
    "groups",
    "centers",
    "scales",
    "limit",
    "steps",
    "tiles_per_program",
    "first_share",
    "count",
    "threshold",
)


@triton.jit
def row_at(order, position, within):
    """The row at a position, int64."""
    row = position
    if order is not None:
        row = tl.load(order + position, mask=within, other=0)
    return row


@triton.jit
def load_rows(base, stride, row, channel, mask, ACC: tl.constexpr):
    """Entries `(…, C)` of rows `(…)`; 0 where masked."""
    return tl.load(base + row * stride + channel, mask=mask, other=0.0).to(ACC)


@triton.jit
def pivots(x, x_stride, order, begin, n, channel, inside, CENTER: tl.constexpr, ACC: tl.constexpr):
    """The first row of each segment; 0 without a centre, and for empty segments."""
    within = (n > 0)[:, None] & inside[None, :]  # (T, C)
    if CENTER == NONE:
        pivot = tl.zeros([begin.shape[0], channel.shape[0]], ACC)
    else:
        row = row_at(order, begin, n > 0)
        pivot = load_rows(x, x_stride, row[:, None], channel[None, :], within, ACC)
    return pivot


@triton.jit
def load_parameter(parameter, segment, exists, channels, channel, inside, OWN: tl.constexpr):
    """A weight or bias: `(T, C)` where every segment has its own, else `(1, C)`."""
    if OWN:
        at = segment[:, None] * channels + channel[None, :]
        value = tl.load(parameter + at, mask=exists[:, None] & inside[None, :], other=0.0)
    else:
        value = tl.load(parameter + channel, mask=inside, other=0.0)[None, :]
    return value


@triton.jit
def first_channel(values):
    """The entry of the first channel, `(…, 1)`."""
    first = tl.arange(0, values.shape[1])[None, :] == 0
    return tl.sum(tl.where(first, values, 0.0), axis=1)[:, None]


@triton.jit
def group_mean(values, inside, span):
    """Mean over the channels of the block, a group: `(…, 1)`."""
    width = tl.full((), span, values.dtype)
    return (tl.sum(tl.where(inside[None, :], values, 0.0), axis=1) / width)[:, None]


@triton.jit
def _center(pivot, shift, mean_scale, channel, inside, CENTER: tl.constexpr):
    """The centre m = hi + lo, from the shift of its cell, `(T, C)` or `(T, 1)`.

    With p the pivot and e = m - p: hi = round(p + e) and lo = e - (hi - p).
    """
    if CENTER == NONE:
        hi = pivot
        lo = pivot
    else:
        if CENTER == BOTH:
            e = shift + (first_channel(pivot) - pivot)
        elif mean_scale is not None:
            alpha = tl.load(mean_scale + channel, mask=inside, other=0.0)[None, :]
            e = alpha * shift + (alpha - 1.0) * pivot
        else:
            e = shift
        hi = pivot + e
        lo = e - (hi - pivot)
    return hi, lo


@triton.jit
def _affine(
    lo, rstd, weight, bias, segment, exists, channels, channel, inside, OWN: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """a and b of the pre-activation a (x - hi) + b."""
    a = rstd
    if weight is not None:
        a = rstd * load_parameter(weight, segment, exists, channels, channel, inside, OWN)
    b = -(lo * a)
    if bias is not None:
        b += load_parameter(bias, segment, exists, channels, channel, inside, OWN)
    return a, b


@triton.jit
def forward_coefficients(
    mean, m2, n, pivot, segment, exists, mean_scale, weight, bias, shift, rstd, moment, channels,
    groups, span, channel, inside, eps, CENTER: tl.constexpr, SCALE: tl.constexpr,
    OWN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """From sums to the statistics, which are stored, and to hi, a and b.

    Args:
        mean: Of every channel, relative to the pivot.
        m2: Sum of the squares about it.
        n: Rows of the segments, `(T,)`.
        exists: Which segments to store.
        span: Channels of a block: a group's where a domain is BOTH.
    """
    per_channel = segment[:, None] * channels + channel[None, :]
    per_group = (segment * groups + tl.program_id(1))[:, None]
    stored = exists[:, None] & inside[None, :]
    found = mean
    if CENTER == NODES:
        tl.store(shift + per_channel, mean, mask=stored)
    elif CENTER == BOTH:
        found = group_mean((pivot - first_channel(pivot)) + mean, inside, span)
        tl.store(shift + per_group, found, mask=exists[:, None])
    hi, lo = _center(pivot, found, mean_scale, channel, inside, CENTER)
    spread = tl.full([segment.shape[0], channel.shape[0]], 1.0, ACC)
    if SCALE != NONE:
        # Equation (2): the second moment about m is that about the channel's own mean, plus the
        # distance of the two squared.
        distance = (mean - (hi - pivot)) - lo
        second = m2 / tl.maximum(n, 1).to(ACC)[:, None] + distance * distance
        if SCALE == NODES:
            spread = 1.0 / tl.sqrt(second + tl.full((), eps, ACC))
            tl.store(rstd + per_channel, spread, mask=stored)
            if moment is not None:
                tl.store(moment + per_channel, second, mask=stored)
        else:
            total = group_mean(second, inside, span)
            of_groups = 1.0 / tl.sqrt(total + tl.full((), eps, ACC))
            tl.store(rstd + per_group, of_groups, mask=exists[:, None])
            if moment is not None:
                tl.store(moment + per_group, total, mask=exists[:, None])
            spread = spread * of_groups
    a, b = _affine(
        lo, spread, weight, bias, segment, exists, channels, channel, inside, OWN, ACC
    )  # fmt: skip
    return hi, a, b


@triton.jit
def recall_coefficients(
    pivot, segment, exists, mean_scale, weight, bias, shift, rstd, channels, groups, channel,
    inside, CENTER: tl.constexpr, SCALE: tl.constexpr, OWN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The shift, hi, lo, 1/s, a and b of segments, from what the forward pass has stored."""
    per_channel = segment[:, None] * channels + channel[None, :]
    per_group = (segment * groups + tl.program_id(1))[:, None]
    stored = exists[:, None] & inside[None, :]
    found = pivot
    if CENTER == NODES:
        found = tl.load(shift + per_channel, mask=stored, other=0.0)
    elif CENTER == BOTH:
        found = tl.load(shift + per_group, mask=exists[:, None], other=0.0)
    hi, lo = _center(pivot, found, mean_scale, channel, inside, CENTER)
    spread = tl.full([segment.shape[0], channel.shape[0]], 1.0, ACC)
    if SCALE == NODES:
        spread = tl.load(rstd + per_channel, mask=stored, other=0.0)
    elif SCALE == BOTH:
        spread = spread * tl.load(rstd + per_group, mask=exists[:, None], other=0.0)
    a, b = _affine(
        lo, spread, weight, bias, segment, exists, channels, channel, inside, OWN, ACC
    )  # fmt: skip
    return found, hi, lo, spread, a, b


@triton.jit
def backward_coefficients(
    s1, s2, n, pivot, shift, lo, spread, a, mean_scale, span, channel, inside,
    CENTER: tl.constexpr, SCALE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """From S1 = sum g and S2 = sum g o to the coefficients of equation (8).

    Returns:
        B and kappa, and the segments' shares of the gradients of mean_scale, weight and bias.
    """
    count = tl.maximum(n, 1).to(ACC)[:, None]
    grad_weight = s2 * spread
    # Equation (5): d = a g - B o
    slope = tl.zeros_like(s2)
    if SCALE == NODES:
        slope = a * s2 * (spread * spread) / count
    elif SCALE == BOTH:
        slope = group_mean(a * s2, inside, span) * (spread * spread) / count
    # Equations (6) and (7)
    mean = a * s1 / count
    grad_mean_scale = tl.zeros_like(s1)
    removed = tl.zeros_like(s1)
    if CENTER == BOTH:
        removed += group_mean(mean, inside, span)
    elif CENTER == NODES:
        if mean_scale is not None:
            alpha = tl.load(mean_scale + channel, mask=inside, other=0.0)[None, :]
            mu = pivot + shift
            mean = mean - slope * ((1.0 - alpha) * mu)
            grad_mean_scale = -(mu * (mean * count))
            removed = alpha * mean
        else:
            removed = mean
    return slope, removed - slope * lo, grad_mean_scale, grad_weight, s1
