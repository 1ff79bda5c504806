"""Derf: an erf with a learned slope and shift in place of statistics."""

from __future__ import annotations

from typing import Unpack

from graphnorms.kernels.point import Point
from graphnorms.layers.bounded_norm import BoundedNorm
from graphnorms.layers.norm_options import KernelOptions


class Derf(BoundedNorm):
    r"""Squash every entry by an erf with a learned slope and shift; there are no statistics.

    Every entry by itself,

    $$ y = f\big(\gamma \, \mathrm{erf}(\alpha x + s) + \beta\big), $$

    with one $\alpha$ and one $s$ for the layer, and $\gamma$ and $\beta$ per channel. Like `DyT`,
    with a function that reaches its ends sooner. No entry depends on another; `train()` and
    `eval()` agree.

    Shapes: `x` and the result `(nodes, channels)`; `alpha` $\alpha$ and `shift` $s$ `(1,)`;
    `weight` $\gamma$ and `bias` $\beta$ `(channels,)`. Precision: computed in float32 or wider,
    relative errors of a few roundings also near 0; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        alpha: Where $\alpha$ begins, in the inverse unit of `x`.
        shift: Where $s$ begins.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        activation, dropout, device, dtype, backend: See `Norm`.

    Raises:
        ValueError: `in_channels` is not positive, `alpha` is 0, `alpha` or `shift` is not finite,
            or `x` is not `(nodes, in_channels)`.

    Source: Chen et al. 2025, https://arxiv.org/abs/2512.10938, and `DiT/dynamic_erf.py` of
    zlab-princeton/Derf at 8dd9ea3, with the same parameter names: its checkpoints load unchanged.
    """

    point = Point(None, None, function="erf")

    def __init__(
        self,
        in_channels: int,
        alpha: float = 0.5,
        shift: float = 0.0,
        affine: bool = True,
        *,
        bias: bool = True,
        **options: Unpack[KernelOptions],
    ) -> None:
        super().__init__(in_channels, alpha, shift, affine, bias, **options)
