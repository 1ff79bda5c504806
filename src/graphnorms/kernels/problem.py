"""What a backend is asked to do, without the data: the key of dispatch and of refusal."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import torch


class Over(enum.IntEnum):
    """Which entries share a statistic."""

    NODES = 1
    """The rows of a segment, each channel alone: `(segments, channels)` cells."""
    CHANNELS = 2
    """The channels of a group, each row alone: `(rows, groups)` cells."""
    BOTH = 3
    """The rows of a segment and the channels of a group: `(segments, groups)` cells."""


ACTIVATIONS: Final = (None, "relu", "leaky_relu")
"""What may be fused behind the normalization, in the order of the kernels' own numbers."""


@dataclass(frozen=True, slots=True)
class NormalizeProblem:
    """One call of `segment_normalize`, as far as a backend's choice depends on it."""

    device: str
    dtype: torch.dtype
    center: Over | None
    scale: Over | None
    mean_scale: bool
    activation: str | None


@dataclass(frozen=True, slots=True)
class AggregateProblem:
    """One call of `aggregate`, as far as a backend's choice depends on it."""

    device: str
    dtype: torch.dtype


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Float32 or wider: in what the statistics of features of this dtype are kept."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def cells(over: int, rows: int, segments: int, channels: int, groups: int) -> tuple[int, int]:
    """Shape of a statistic over a domain, an `Over` or 0 for none: then `(0, 0)`."""
    if over == Over.NODES:
        return (segments, channels)
    if over == Over.CHANNELS:
        return (rows, groups)
    if over == Over.BOTH:
        return (segments, groups)
    return (0, 0)
