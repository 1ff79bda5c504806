"""A point of the one equation and a call of it: the vocabulary of layers and kernels."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

import torch
from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.kernels.layout import Layout
from graphnorms.segments import Segments


class Over(enum.IntEnum):
    """Which entries share a statistic."""

    # Enum's hash is slow Python, and every call uses domains as keys.
    __hash__ = int.__hash__

    NODES = 1
    """The rows of a segment, per channel: `(segments, channels)` cells."""
    CHANNELS = 2
    """The channels of a group, per row: `(rows, groups)` cells."""
    BOTH = 3
    """The rows of a segment and the channels of a group: `(segments, groups)` cells."""


ACTIVATIONS: Final = (None, "relu", "leaky_relu", "gelu", "silu")
"""The activations that kernels can fuse, in the order of their numbers in the kernels."""


FUNCTIONS: Final = (None, "tanh", "erf")
"""The functions that may take the place of the statistics, in the order of their numbers in the
kernels."""


def check_function(function: str | None) -> None:
    """Refuse a function that is not among the bounded ones."""
    if function not in FUNCTIONS:
        raise unknown_name("function", str(function), [str(name) for name in FUNCTIONS])


def check_activation(activation: str | None) -> None:
    """Refuse an activation that the kernels cannot fuse."""
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", str(activation), [str(name) for name in ACTIVATIONS])


def check_dropout(dropout: float) -> None:
    """Refuse a dropout probability outside 0 … 1, or of 1."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}, expected a number from 0 to below 1")


def check_residual(residual: Tensor | None, x: Tensor) -> None:
    """Refuse a residual that differs from the features in shape, dtype or device."""
    if residual is not None and (
        residual.shape != x.shape or residual.dtype != x.dtype or residual.device != x.device
    ):
        raise ValueError(
            f"residual is {tuple(residual.shape)} of {residual.dtype} on {residual.device}, "
            f"expected {tuple(x.shape)} of {x.dtype} on {x.device} like x"
        )


class Point(NamedTuple):
    """Which entries share a statistic, or which function takes the place of statistics.

    Args:
        center: Domain of the mean; `None` to subtract nothing.
        scale: Domain of the second moment; `None` to divide by nothing.
        segment: What a segment is: a `"graph"`, the `"batch"` or a node `"type"`; `""` for
            statistics within rows.
        groups: Number of channel groups of `Over.CHANNELS` and `Over.BOTH`.
        function: One of `FUNCTIONS`, of each entry by itself; only without center and scale.
    """

    center: Over | None
    scale: Over | None
    segment: str = ""
    groups: int = 1
    function: str | None = None

    @property
    def spans_rows(self) -> bool:
        """Whether a statistic spans rows, and so may span ranks."""
        return not _OVER_ROWS.isdisjoint((self.center, self.scale))


_OVER_ROWS: Final = frozenset((Over.NODES, Over.BOTH))


Parameters = tuple[Tensor | None, Tensor | None, Tensor | None]
"""α, γ and β: `mean_scale`, `weight` and `bias`.

At a point with a function `mean_scale` is its slope, `(1,)`, or its slope and shift, `(2,)`.
"""

NO_PARAMETERS: Final[Parameters] = (None, None, None)

NO_STATISTICS: Final = Point(None, None)
"""Nothing is subtracted and nothing divided by: `Averages` take that place, or nothing does."""


class Averages(NamedTuple):
    """Averages of mean and variance, `(channels,)`, which take the place of statistics."""

    mean: Tensor
    var: Tensor


class MovedAverages(NamedTuple):
    """Running averages that a normalization over the batch updates in place.

    Args:
        mean, var: Mean and unbiased variance, `(channels,)`.
        counter: Batches so far, one int64.
        momentum: Weight of the new batch.
    """

    mean: Tensor
    var: Tensor
    counter: Tensor
    momentum: float


class Call(NamedTuple):
    """The arguments of a call without gradients: all but x, parameters and residual.

    See `graphnorms.segment_normalize`. `seed` is not `None` if and only if `dropout` > 0; `groups`
    of the point is 1 if there is a `layout`.
    """

    segments: Segments
    point: Point
    eps: float = 1e-5
    activation: str | None = None
    dropout: float = 0.0
    seed: Tensor | None = None
    layout: Layout | None = None

    def cells(self, x: Tensor) -> tuple[int, int]:
        """Count the cells of centre and scale."""
        center, scale, _, groups, _ = self.point
        rows, channels = x.shape
        segments = max(self.segments.num_segments, 0)  # an empty ptr is refused later
        centers, scales = (groups, groups) if self.layout is None else self.layout[1:]
        # Not a table with domains as indices, on which Dynamo fails where sizes are symbols, and
        # not a function, which a small call would pay for.
        of_center = (rows if center is Over.CHANNELS else segments) * centers
        of_scale = (rows if scale is Over.CHANNELS else segments) * scales
        over_nodes = segments * channels
        return (
            0 if center is None else over_nodes if center is Over.NODES else of_center,
            0 if scale is None else over_nodes if scale is Over.NODES else of_scale,
        )

    def flat(self) -> tuple[tuple[Tensor | None, ...], tuple[Any, ...]]:
        """Flatten to tensors and numbers, as operators and C++ kernels take a call."""
        segments, (center, scale, _, groups, function), eps, activation, dropout, seed, layout = (
            self
        )
        table, *cells = (None, 1, 1) if layout is None else layout
        others = (ACTIVATIONS.index(activation), dropout, FUNCTIONS.index(function))
        numbers = (center or 0, scale or 0, groups, *cells, eps, *others)
        return (segments.ptr, segments.order, seed, table), numbers

    @classmethod
    def of_flat(
        cls, x: Tensor, tensors: Sequence[Any], masked: bool, numbers: Sequence[Any]
    ) -> Self:
        """Rebuild a call from what `flat` returns."""
        ptr, order, seed, table = tensors
        center, scale, groups, centers, scales, eps, activation, dropout, function = numbers
        over = (Over(center) if center else None, Over(scale) if scale else None)
        segments = Segments(ptr, order, x.shape[0], masked=masked)
        point = Point(*over, groups=groups, function=FUNCTIONS[function])
        layout = None if table is None else Layout(table, centers, scales)
        return cls(segments, point, eps, ACTIVATIONS[activation], dropout, seed, layout)

    def mean_scale_shape(self, x: Tensor, mean_scale: Tensor | None) -> tuple[int, ...]:
        """Return the shape that `mean_scale` must have."""
        if self.point.function is None:
            return (x.shape[1],)
        return (2,) if mean_scale is not None and mean_scale.shape == (2,) else (1,)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of statistics of features of this dtype: float32 or wider."""
    return torch.float64 if dtype == torch.float64 else torch.float32


WITHOUT_FLOAT64: Final = ("mps",)
"""Device types without float64."""


def widest_float(device: torch.device) -> torch.dtype:
    """Return the widest floating dtype of a device: float64, or else float32."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def in_float64(x: Tensor) -> Tensor:
    """Convert to float64: on the device of x, or on the host if the device has no float64."""
    return (x.cpu() if x.device.type in WITHOUT_FLOAT64 else x).double()
