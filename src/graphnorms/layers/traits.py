"""What a normalization does to graphs and batches, read off its layer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from graphnorms.kernels.point import Over, Point
from graphnorms.layers.base import Norm
from graphnorms.layers.factory import make_norm

_CHANNELS = 8


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a normalization does.

    Args:
        batch_statistics: Its statistics span the minibatch.
        running_statistics: `eval()` uses running averages of them.
        removes_mean: The mean of a channel over the nodes of a graph is gone after it.
        learned_shift: A learned share of that mean stays.
        rescales: It divides by a statistic: the scale of what enters makes no difference.
        per_row: Its statistics are those of a single row.
    """

    batch_statistics: bool = False
    running_statistics: bool = False
    removes_mean: bool = False
    learned_shift: bool = False
    rescales: bool = False
    per_row: bool = False


def has_running_statistics(module: nn.Module) -> bool:
    """Whether a module itself, without its parts, keeps running statistics."""
    return module._buffers.get("running_mean") is not None


@lru_cache(maxsize=256)
def traits_of(norm: str) -> Traits:
    """Return what a normalization, given as text, does; nothing is known of one of the user's own.

    A layer that is no point of the equation is known by the span of its statistics only.
    """
    try:
        layer = make_norm(norm, _CHANNELS)
    except (TypeError, ValueError):  # of the user's own, or of a version that had other norms
        return Traits()
    assert isinstance(layer, Norm)
    point = layer.point or Point(None, None)
    learned = isinstance(getattr(layer, "mean_scale", None), nn.Parameter)
    over_graphs = point.segment == "graph" and point.center in (Over.NODES, Over.BOTH)
    return Traits(
        batch_statistics=layer.statistics_of == "batch",
        running_statistics=any(map(has_running_statistics, layer.modules())),
        removes_mean=over_graphs and point.center == Over.NODES and not learned,
        learned_shift=over_graphs and learned,
        rescales=point.scale is not None,
        per_row=not point.segment and (point.center or point.scale) is not None,
    )
