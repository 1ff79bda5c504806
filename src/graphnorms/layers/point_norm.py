"""Points of the one equation by the names of their domains, and a layer at such a point."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import FUNCTIONS, Over, Parameters, Point, accumulation_dtype
from graphnorms.layers.argument_checks import check_groups
from graphnorms.layers.base import Given, Norm
from graphnorms.layers.norm_options import NormOptions, place
from graphnorms.segments import Segments, as_segments

DOMAINS: Final[Mapping[str, tuple[Over | None, str]]] = MappingProxyType(
    {
        "none": (None, ""),
        "node": (Over.CHANNELS, ""),
        "graph": (Over.NODES, "graph"),
        "graph-channels": (Over.BOTH, "graph"),
        "batch": (Over.NODES, "batch"),
        "batch-channels": (Over.BOTH, "batch"),
    }
)
"""By name: the domain, and which rows form a segment."""

_FUNCTIONS: Final = tuple(name for name in FUNCTIONS if name is not None)
_SCALES: Final = (*DOMAINS, *_FUNCTIONS)
SLOPE: Final = 0.5
"""Where the slope of a function begins, as that of `DyT`."""


class PointNorm(Norm):
    """A normalization at a point of the equation that is given by names.

    Args:
        in_channels, eps, options: See `Norm`.
        center, scale: Names in `DOMAINS`; as a scale also a bounded function, `"tanh"` or `"erf"`.
        groups: Number of channel groups of domains over channels.
        own: `"graph"` or `"row"` if every graph or row has its own weight and bias, `""` if all
            rows share them.

    A function has a learned slope, the parameter `alpha`.

    Raises:
        ValueError: A name is unknown; both are `"none"`; `eps` is not positive; or `groups` does
            not divide the channels, or is not 1 although no domain is over channels.
    """

    alpha: nn.Parameter | None

    @classmethod
    def point_with(cls, arguments: Mapping[str, Any]) -> Point | None:
        """See `Norm`; `None` if the point takes two calls."""
        names = [arguments.get(name, "graph") for name in ("center", "scale")]
        points = _points(names[0], names[1], arguments.get("groups", 1), "")
        return points[0] if len(points) == 1 else None

    def __init__(
        self,
        in_channels: int,
        *,
        center: str,
        scale: str,
        groups: int,
        eps: float,
        own: str = "",
        **options: Unpack[NormOptions],
    ) -> None:
        process_group = options.pop("process_group", None)
        super().__init__(in_channels, eps=eps, **options)
        for kind, name, known in (("center", center, DOMAINS), ("scale", scale, _SCALES)):
            if name not in known:
                raise unknown_name(kind, str(name), known)
        if center == scale == "none":
            raise ValueError(
                "center and scale are both 'none', expected at least one domain; use Identity"
            )
        check_groups("groups", groups, in_channels)
        if groups > 1 and not {"node", "graph-channels", "batch-channels"} & {center, scale}:
            raise ValueError(
                f"groups is {groups}, but neither center={center!r} nor scale={scale!r} is over "
                "channels; use groups=1, or a domain over channels"
            )
        self.center = center
        self.scale = scale
        self.groups = groups
        self._points = _points(center, scale, groups, own)
        made = None
        if scale in _FUNCTIONS:
            made = nn.Parameter(torch.full((1,), SLOPE, **place(options)))
        self.register_parameter("alpha", made)
        self.process_group = process_group

    def reset_parameters(self) -> None:
        """Set `bias` to 0, the slope of a function to where it begins, all others to 1."""
        super().reset_parameters()
        if self.alpha is not None:
            nn.init.constant_(self.alpha, SLOPE)

    @property
    def statistics_of(self) -> str:
        """See `Norm`; `"graph"` if there are both."""
        segments = {DOMAINS.get(name, (None, ""))[1] for name in (self.center, self.scale)}
        return next((name for name in ("graph", "batch") if name in segments), "")

    @property
    def per_graph(self) -> bool:
        """See `Norm`."""
        return any(point.segment == "graph" for point in self._points)

    def _at_points(
        self, x: Tensor, given: Given, residual: Tensor | None, parameters: Parameters
    ) -> Tensor:
        """Run the calls: the first one centers, the last one applies parameters and epilogue."""
        dtype = x.dtype
        *others, last = self._points
        mean_scale, weight, bias = parameters
        if others:
            # Do not round to half precision between two calls.
            wide = accumulation_dtype(dtype)
            x = x.to(wide)
            residual = None if residual is None else residual.to(wide)
        for point in others:
            rows = self._segments(point, x, given)
            x, _ = self._normalize(x, rows, (point, mean_scale, None, None, self.eps), plain=True)
            mean_scale = None
        if last.function is not None:
            mean_scale = self.alpha
        rows = self._segments(last, x, given)
        y, _ = self._normalize(x, rows, (last, mean_scale, weight, bias, self.eps), residual)
        return y.to(dtype)

    def _segments(self, point: Point, x: Tensor, given: Given) -> Segments:
        if point.segment == "graph":
            return self._graphs(x, given)
        if point.segment == "row":
            return _one_for_each_row(x, given[2])
        return as_segments(None, rows_of=x, mask=given[2])


def _one_for_each_row(x: Tensor, mask: Tensor | None) -> Segments:
    ids = torch.arange(x.shape[0] + 1, device=x.device)
    segments = Segments(ids, None, x.shape[0], longest=1, index=ids[:-1])
    return segments if mask is None else segments.with_mask(mask)


def _points(center: str, scale: str, groups: int, own: str) -> tuple[Point, ...]:
    """Split a point into calls with one kind of segments each, a function by itself."""
    if scale in _FUNCTIONS:
        over, segment = DOMAINS[center]
        function = Point(None, None, own, function=scale)
        return (function,) if over is None else (Point(over, None, segment, groups), function)
    (over, segment), (of_scale, other) = DOMAINS[center], DOMAINS[scale]
    if segment and other and segment != other:
        points = [Point(over, None, segment, groups), Point(None, of_scale, other, groups)]
    else:
        points = [Point(over, of_scale, segment or other or own, groups)]
    if own and points[-1].segment != own:
        points.append(Point(None, None, own, groups))
    return tuple(points)
