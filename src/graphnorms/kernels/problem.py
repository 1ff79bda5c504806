"""What a backend is asked to do, without the data: the key of dispatch and of refusal."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from graphnorms.errors import unknown_name


class Over(enum.IntEnum):
    """Which entries share a statistic."""

    # That of Enum is written in Python, and every call looks something up by its domains.
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


@dataclass(frozen=True, slots=True)
class NormalizeProblem:
    """One call of `segment_normalize`, as far as a backend's choice depends on it."""

    device: str
    dtype: torch.dtype
    center: Over | None
    scale: Over | None
    mean_scale: bool


def domain_refusals(problem: NormalizeProblem) -> list[str]:
    """Why no kernels have this point of the equation, on whatever device; empty if they do."""
    reasons = []
    over = {problem.center, problem.scale} - {None}
    if Over.CHANNELS in over and len(over) > 1:
        reasons.append("one statistic within rows and one over nodes")
    if Over.CHANNELS in over and problem.mean_scale:
        reasons.append("mean_scale with a centre within rows")
    if problem.center is Over.BOTH and problem.scale is Over.NODES:
        reasons.append("a centre over nodes and channels with a scale over nodes")
    if problem.center is Over.BOTH and problem.mean_scale:
        reasons.append("mean_scale with a centre over nodes and channels")
    return reasons


@dataclass(frozen=True, slots=True)
class AggregateProblem:
    """One call of `aggregate`, as far as a backend's choice depends on it."""

    device: str
    dtype: torch.dtype


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


def statistics_sizes(
    center: int, scale: int, rows: int, segments: int, channels: int, groups: int
) -> tuple[int, int]:
    """How many cells the domains of centre and scale have: an `Over`, or 0 for none."""
    return _cells(center, rows, segments, channels, groups), _cells(
        scale, rows, segments, channels, groups
    )


def _cells(over: int, rows: int, segments: int, channels: int, groups: int) -> int:
    if over == Over.NODES:
        return segments * channels
    if over == Over.CHANNELS:
        return rows * groups
    return segments * groups if over == Over.BOTH else 0
