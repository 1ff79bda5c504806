"""The last sum behind the gradients of parameters."""

import triton
import triton.language as tl

from graphnorms.kernels.triton.device.cells import VARYING


@triton.jit(do_not_specialize=VARYING)
def sum_shares(
    shares, grad_mean_scale, grad_weight, grad_bias, count, channels, J: tl.constexpr,
    C: tl.constexpr,
):  # fmt: skip
    """Add up the programs' shares, in double and always in the same order.

    Shapes: `shares` `(count, 3, channels)`; a program does one of the three.
    """
    channel = tl.program_id(0) * C + tl.arange(0, C)
    which = tl.program_id(1)
    inside = channel < channels
    total = tl.zeros([J, C], tl.float64)
    for first in range(0, count, J):
        number = first + tl.arange(0, J).to(tl.int64)  # (J,)
        at = shares + (number[:, None] * 3 + which) * channels + channel[None, :]
        mask = (number < count)[:, None] & inside[None, :]
        total += tl.load(at, mask=mask, other=0.0).to(tl.float64)
    out = tl.sum(total, axis=0).to(shares.dtype.element_ty)
    if grad_mean_scale is not None:
        if which == 0:
            tl.store(grad_mean_scale + channel, out, mask=inside)
    if grad_weight is not None:
        if which == 1:
            tl.store(grad_weight + channel, out, mask=inside)
    if grad_bias is not None:
        if which == 2:
            tl.store(grad_bias + channel, out, mask=inside)
