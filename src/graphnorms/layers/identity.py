"""Identity: no normalization, the baseline of every comparison."""

from __future__ import annotations

from typing import Final, Unpack

from torch import Tensor

from graphnorms.kernels.point import Point
from graphnorms.layers.base import Equation, Given, Norm, OneCall
from graphnorms.layers.norm_options import PlainOptions
from graphnorms.segments import Segments, as_segments
from graphnorms.tracing import is_plain

_NOTHING: Final[Equation] = (Point(None, None), None, None, None, 0.0)


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

    _one_call = True

    def __init__(self, in_channels: int, **options: Unpack[PlainOptions]) -> None:
        super().__init__(in_channels, **options)

    def as_call(self, x: Tensor, segments: Segments, channels: int) -> OneCall:
        """See `Norm.as_call`."""
        return *self._call(x, as_segments(None, rows_of=x), _NOTHING), None

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        if self.activation is None or given[2] is not None or not (x.is_cpu and is_plain(x)):
            return super()._compute(x, given, residual, channels)
        rows = as_segments(None, rows_of=x)
        y, _ = self._normalize(x, rows, _NOTHING, residual)
        return y

    def transform(
        self, x: Tensor, segments: Segments | None, mask: Tensor | None, channels: int
    ) -> Tensor:
        """Return `x`."""
        return x
