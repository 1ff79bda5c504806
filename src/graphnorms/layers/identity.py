"""Identity: no normalization, the baseline of every comparison."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from graphnorms.layers.base import Norm
from graphnorms.layers.norm_options import PlainOptions
from graphnorms.segments import Segments


class Identity(Norm):
    r"""Normalize nothing: $y = f(x)$.

    It accepts the arguments of every layer, so that a model can be built without normalization.

    Shapes: `x` and the result `(nodes, channels)`.

    Args:
        in_channels: Number of channels.
        activation, dropout, device, dtype: See `Norm`.

    Raises:
        ValueError: `in_channels` is not positive, or `x` is not `(nodes, in_channels)`.
    """

    def __init__(self, in_channels: int, **options: Unpack[PlainOptions]) -> None:
        super().__init__(in_channels, **options)

    def transform(
        self, x: Tensor, segments: Segments | None, mask: Tensor | None, channels: int
    ) -> Tensor:
        """Return `x`."""
        return x
