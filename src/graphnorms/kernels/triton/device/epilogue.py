"""What is fused behind a normalization: an activation and dropout, forward and backward.

NaN passes the activations: a comparison with NaN is false, and the false branch keeps it.
"""

import triton
import triton.language as tl

# Numbered as in `graphnorms.kernels.point.ACTIVATIONS`; curved from GELU on.
RELU: tl.constexpr = tl.constexpr(1)
LEAKY_RELU: tl.constexpr = tl.constexpr(2)
GELU: tl.constexpr = tl.constexpr(3)
SILU: tl.constexpr = tl.constexpr(4)


@triton.jit
def _scaled_tail(s, ACC: tl.constexpr):
    # erfcx(z) / t as a polynomial in s = 2 t - 1; the coefficients of kernels/cpu/functions.inl
    if ACC == tl.float32:
        p = s * -1.32739552e-6 + 4.21611972e-5
        p = p * s + -3.29515393e-5
        p = p * s + -2.99382712e-4
        p = p * s + 4.27020151e-4
        p = p * s + 1.52915716e-3
        p = p * s + -3.2418549e-3
        p = p * s + -1.07516262e-2
        p = p * s + 1.82213842e-2
        p = p * s + 1.39735734e-1
        p = p * s + 3.43580333e-1
        p = p * s + 5.10791357e-1
    else:
        p = s * -1.9111737286078939e-9 + 6.5973673029002745e-9
        p = p * s + 6.5204346144015396e-9
        p = p * s + -5.1456294343577354e-8
        p = p * s + 3.6000845292079934e-8
        p = p * s + 1.4971435260223121e-7
        p = p * s + -3.262460935296672e-7
        p = p * s + 1.5720540066794158e-8
        p = p * s + 1.0305699215291105e-6
        p = p * s + -1.835078540898153e-6
        p = p * s + -5.7764236115114268e-7
        p = p * s + 8.0671062112202289e-6
        p = p * s + -1.084298532996441e-5
        p = p * s + -1.707663814507957e-5
        p = p * s + 7.2234188295048068e-5
        p = p * s + -1.7185254170406898e-5
        p = p * s + -3.3153657669014612e-4
        p = p * s + 4.1864797106605077e-4
        p = p * s + 1.5453060141013287e-3
        p = p * s + -3.2395925295271532e-3
        p = p * s + -1.0755330944036531e-2
        p = p * s + 1.8221115753294919e-2
        p = p * s + 1.3973604627801475e-1
        p = p * s + 3.4358034220690671e-1
        p = p * s + 5.1079135262101153e-1
    return p


@triton.jit
def _normal(z, ACC: tl.constexpr):
    """The distribution function of the normal distribution, its tails right in proportion."""
    distance = tl.abs(z) * 0.70710678118654752440
    t = 1.0 / (1.0 + 0.5 * distance)
    density = tl.exp(distance * -distance)
    tail = density * t * _scaled_tail(2.0 * t - 1.0, ACC) * 0.5
    return tl.where(z < 0, tail, 1.0 - tail), density * 0.39894228040143267794


@triton.jit
def activate(pre, ACTIVATION: tl.constexpr, ACC: tl.constexpr):
    """f(pre)."""
    out = pre
    if ACTIVATION == RELU:
        out = tl.where(pre < 0, 0.0, pre)
    elif ACTIVATION == LEAKY_RELU:
        out = tl.where(pre < 0, pre * 0.01, pre)
    elif ACTIVATION == GELU:
        distribution, _ = _normal(pre, ACC)
        out = pre * distribution
    elif ACTIVATION == SILU:
        out = pre / (1.0 + tl.exp(-pre))
    return out


@triton.jit
def curve(pre, ACTIVATION: tl.constexpr, ACC: tl.constexpr):
    """f'(pre) and f''(pre)."""
    slope = tl.full(pre.shape, 1.0, ACC)
    bend = tl.zeros(pre.shape, ACC)
    if ACTIVATION == GELU:
        distribution, density = _normal(pre, ACC)
        slope = distribution + pre * density
        bend = (2.0 - pre * pre) * density
    elif ACTIVATION == SILU:
        gate = 1.0 / (1.0 + tl.exp(-pre))
        rest = 1.0 - gate
        slope = gate + pre * gate * rest
        bend = gate * rest * (2.0 + pre * (rest - gate))
    elif ACTIVATION != 0:
        slope = differentiate(pre, slope, ACTIVATION, ACC)
    return slope, bend


@triton.jit
def differentiate(pre, grad, ACTIVATION: tl.constexpr, ACC: tl.constexpr):
    """f'(pre) grad."""
    out = grad
    if ACTIVATION == RELU:
        out = tl.where(pre <= 0, 0.0, grad)
    elif ACTIVATION == LEAKY_RELU:
        out = tl.where(pre <= 0, grad * 0.01, grad)
    elif ACTIVATION >= GELU:
        slope, _ = curve(pre, ACTIVATION, ACC)
        out = grad * slope
    return out


@triton.jit
def drop(values, seed, row, channel, threshold, gain, ACC: tl.constexpr):
    """Set the entries to drop to 0, and multiply the others by `gain`.

    Draws the random numbers that `graphnorms.kernels.dropout` draws. `values` is `row` and
    `channel` broadcast against each other.
    """
    key = tl.load(seed).to(tl.uint64) + (row.to(tl.uint64) + 1) * 0x9E3779B97F4A7C15
    key = (key ^ (key >> 30)) * 0xBF58476D1CE4E5B9
    key = (key ^ (key >> 27)) * 0x94D049BB133111EB
    key = key ^ (key >> 31)
    bits = channel.to(tl.uint32) * 0x9E3779B9 + key.to(tl.uint32)
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = bits ^ (key >> 32).to(tl.uint32)
    bits = (bits ^ (bits >> 15)) * 0x846CA68B
    bits = bits ^ (bits >> 16)
    stays = bits >= tl.full((), threshold, tl.uint32)
    return tl.where(stays, values * tl.full((), gain, ACC), 0.0)


@triton.jit
def finish(
    pre, seed, row, channel, threshold, gain, ACTIVATION: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """D(f(pre)); no seed says that nothing is dropped."""
    out = activate(pre, ACTIVATION, ACC)
    if seed is not None:
        out = drop(out, seed, row, channel, threshold, gain, ACC)
    return out


@triton.jit
def finish_backward(
    pre, grad, seed, row, channel, threshold, gain, ACTIVATION: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """The gradient of the pre-activation."""
    if seed is not None:
        grad = drop(grad, seed, row, channel, threshold, gain, ACC)
    return differentiate(pre, grad, ACTIVATION, ACC)
