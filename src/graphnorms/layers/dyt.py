"""DyT: a tanh with a learned slope in place of statistics."""

from __future__ import annotations

from typing import Unpack

from graphnorms.kernels.point import Point
from graphnorms.layers.bounded_norm import BoundedNorm
from graphnorms.layers.norm_options import KernelOptions


class DyT(BoundedNorm):
    r"""Squash every entry by a tanh with a learned slope; there are no statistics.

    Every entry by itself,

    $$ y = f\big(\gamma \tanh(\alpha x) + \beta\big), $$

    with one $\alpha$ for the layer, and $\gamma$ and $\beta$ per channel. Nothing is centred or
    divided by a spread: small entries are multiplied by $\gamma\alpha$, large ones end at
    $\beta \pm \gamma$, and no entry depends on another, node, channel or graph. `train()` and
    `eval()` agree.

    Shapes: `x` and the result `(nodes, channels)`; `alpha` $\alpha$ `(1,)`; `weight` $\gamma$ and
    `bias` $\beta$ `(channels,)`. Precision: computed in float32 or wider, relative errors of a few
    roundings also near 0; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        alpha: Where $\alpha$ begins, in the inverse unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        activation, dropout, device, dtype, backend: See `Norm`.

    Raises:
        ValueError: `in_channels` is not positive, `alpha` is 0 or not finite, or `x` is not
            `(nodes, in_channels)`.

    Source: Zhu et al., CVPR 2025, https://arxiv.org/abs/2503.10622, and `dynamic_tanh.py` of
    jiachenzhu/DyT at aab5dde, with the same parameter names: its checkpoints load unchanged.
    """

    point = Point(None, None, function="tanh")

    def __init__(
        self,
        in_channels: int,
        alpha: float = 0.5,
        affine: bool = True,
        *,
        bias: bool = True,
        **options: Unpack[KernelOptions],
    ) -> None:
        super().__init__(in_channels, alpha, None, affine, bias, **options)
