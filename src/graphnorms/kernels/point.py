"""A point of the one equation, and a call of it: the words that layers and kernels share."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.segments import Segments


class Over(enum.IntEnum):
    """Which entries share a statistic."""

    # Enum's own hash is slow Python, and every call looks something up by its domains.
    __hash__ = int.__hash__

    NODES = 1
    """The rows of a segment, each channel alone: `(segments, channels)` cells."""
    CHANNELS = 2
    """The channels of a group, each row alone: `(rows, groups)` cells."""
    BOTH = 3
    """The rows of a segment and the channels of a group: `(segments, groups)` cells."""


ACTIVATIONS: Final = (None, "relu", "leaky_relu", "gelu", "silu")
"""What may be fused behind the normalization, in the order of the kernels' own numbers."""


def check_activation(activation: str | None) -> None:
    """Refuse an activation that the kernels cannot fuse."""
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", str(activation), [str(name) for name in ACTIVATIONS])


def check_dropout(dropout: float) -> None:
    """Refuse a share to drop that leaves nothing, or is no share."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is {dropout}, expected a number from 0 to below 1")


def check_residual(residual: Tensor | None, x: Tensor) -> None:
    """Refuse a residual that is not like the features it is added to."""
    if residual is not None and (
        residual.shape != x.shape or residual.dtype != x.dtype or residual.device != x.device
    ):
        raise ValueError(
            f"residual is {tuple(residual.shape)} of {residual.dtype} on {residual.device}, "
            f"expected {tuple(x.shape)} of {x.dtype} on {x.device} like x"
        )


class Point(NamedTuple):
    """Which entries share a statistic.

    Args:
        center: Over what the mean is taken, or `None` to subtract nothing.
        scale: Over what the second moment is taken, or `None` to divide by nothing.
        segment: What the rows of a segment have in common: `"graph"`, `"batch"` or `"type"`; `""`
            where statistics are within rows.
        groups: Channel groups of `Over.CHANNELS` and `Over.BOTH`.
    """

    center: Over | None
    scale: Over | None
    segment: str = ""
    groups: int = 1

    @property
    def spans_rows(self) -> bool:
        """Whether a statistic is taken over rows, some of which may be on other ranks."""
        return not _OVER_ROWS.isdisjoint((self.center, self.scale))


_OVER_ROWS: Final = frozenset((Over.NODES, Over.BOTH))


Parameters = tuple[Tensor | None, Tensor | None, Tensor | None]
"""α, γ and β: `mean_scale`, `weight` and `bias`."""

NO_PARAMETERS: Final[Parameters] = (None, None, None)


class Call(NamedTuple):
    """One call of the equation: all of it but x, parameters and residual, which have gradients.

    See `graphnorms.segment_normalize`. `seed` is not `None` if and only if `dropout` > 0.
    """

    segments: Segments
    point: Point
    eps: float = 1e-5
    activation: str | None = None
    dropout: float = 0.0
    seed: Tensor | None = None

    def cells(self, x: Tensor) -> tuple[int, int]:
        """Count the cells of centre and scale."""
        center, scale, _, groups = self.point
        rows, channels = x.shape
        segments = max(self.segments.num_segments, 0)  # an empty ptr is refused where it is read
        sizes = (0, segments * channels, rows * groups, segments * groups)
        return sizes[center or 0], sizes[scale or 0]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Float32 or wider: in what the statistics of features of this dtype are kept."""
    return torch.float64 if dtype == torch.float64 else torch.float32


WITHOUT_FLOAT64: Final = ("mps",)
"""The kinds of devices that have no float64."""


def widest_float(device: torch.device) -> torch.dtype:
    """The widest floating dtype of a device: float64, or float32 where there is none."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def in_float64(x: Tensor) -> Tensor:
    """Convert to float64: on the device of x, or on the host where that has none."""
    return (x.cpu() if x.device.type in WITHOUT_FLOAT64 else x).double()
