"""The points of the one equation by name: over what a layer centers and over what it scales."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from torch import Tensor

from graphnorms.errors import unknown_name
from graphnorms.kernels import Over
from graphnorms.kernels.api import normalize
from graphnorms.kernels.problem import accumulation_dtype
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_eps, check_groups
from graphnorms.segments import Segments, as_segments


class Domain(NamedTuple):
    """Which entries share a statistic."""

    over: Over | None
    """The part of a segment, or `None` for no statistic at all."""
    segment: str
    """Whose rows: `"graph"`, `"batch"`, or `""` where segments make no difference."""


DOMAINS: Final[Mapping[str, Domain]] = MappingProxyType({
    "none": Domain(None, ""),
    "node": Domain(Over.CHANNELS, ""),
    "graph": Domain(Over.NODES, "graph"),
    "graph-channels": Domain(Over.BOTH, "graph"),
    "batch": Domain(Over.NODES, "batch"),
    "batch-channels": Domain(Over.BOTH, "batch"),
})  # fmt: skip
"""By name; those that go over channels go over the channels of a group."""


class _Step(NamedTuple):
    """One call of the primitive."""

    center: Over | None
    scale: Over | None
    segment: str


class PointNorm(Norm):
    """A normalization at a point of the equation that is given by name.

    Args:
        in_channels, activation, dropout, backend: See `Norm`.
        center, scale: Names in `DOMAINS`.
        groups: Number of channel groups of the domains that go over channels.
        eps: In the squared unit of the features.
        own: Whose own weight and bias are: `"graph"`, or `""` where all rows share them.
        process_group: Ranks whose nodes count as one minibatch, and over which every graph is
            spread; `None` for the rank alone.

    Raises:
        ValueError: A name is unknown; there is neither centre nor scale; `eps` is not positive;
            or `groups` does not divide the channels, or is not 1 where no domain goes over them.
    """

    def __init__(
        self,
        in_channels: int,
        activation: str | None,
        dropout: float,
        backend: str,
        *,
        center: str,
        scale: str,
        groups: int,
        eps: float,
        own: str = "",
        process_group: Group = None,
    ) -> None:
        super().__init__(in_channels, activation, dropout, backend)
        check_eps(eps)
        for kind, name in (("center", center), ("scale", scale)):
            if name not in DOMAINS:
                raise unknown_name(kind, str(name), DOMAINS)
        if center == scale == "none":
            raise ValueError(
                "center and scale are both 'none', so nothing would be normalized; use Identity"
            )
        check_groups("groups", groups, in_channels)
        if groups > 1 and not {"node", "graph-channels", "batch-channels"} & {center, scale}:
            raise ValueError(
                f"groups is {groups}, but center={center!r} and scale={scale!r} take every channel "
                "alone; use groups=1, or a domain that goes over channels"
            )
        self.center = center
        self.scale = scale
        self.groups = groups
        self.eps = eps
        self._steps = _steps(DOMAINS[center], DOMAINS[scale], own)
        whose = {DOMAINS[center].segment, DOMAINS[scale].segment}
        self.statistics_of = next((name for name in ("graph", "batch") if name in whose), "")
        self.process_group = process_group
        self.per_graph = any(step.segment == "graph" for step in self._steps)

    def _at_point(
        self,
        x: Tensor,
        batch: Tensor | Segments | None,
        batch_size: int | None,
        residual: Tensor | None,
        mask: Tensor | None,
        mean_scale: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Run the calls; the first one centers, the last one has the parameters and epilogue."""
        dtype = x.dtype
        *others, last = self._steps
        if others:
            # What passes between two calls is not rounded to half precision.
            wide = accumulation_dtype(dtype)
            x = x.to(wide)
            residual = None if residual is None else residual.to(wide)
        for step in others:
            x, _ = normalize(
                x, self._rows_of(step.segment, x, batch, batch_size, mask),
                center=step.center, scale=step.scale, groups=self.groups, mean_scale=mean_scale,
                weight=None, bias=None, eps=self.eps, activation=None, dropout=0.0, seed=None,
                residual=None, backend=self.backend, ranks=self._ranks,
            )  # fmt: skip
            mean_scale = None
        y, _ = self._normalize(
            x, self._rows_of(last.segment, x, batch, batch_size, mask), residual,
            center=last.center, scale=last.scale, groups=self.groups, mean_scale=mean_scale,
            weight=weight, bias=bias, eps=self.eps,
        )  # fmt: skip
        return y.to(dtype)

    def _rows_of(
        self,
        segment: str,
        x: Tensor,
        batch: Tensor | Segments | None,
        batch_size: int | None,
        mask: Tensor | None,
    ) -> Segments:
        if segment == "graph":
            return self._graphs(x, batch, batch_size, mask)
        return as_segments(None, rows_of=x, mask=mask)


def _steps(center: Domain, scale: Domain, own: str) -> tuple[_Step, ...]:
    """Cut a point into calls, each of which knows one kind of segments."""
    if center.segment and scale.segment and center.segment != scale.segment:
        steps = [
            _Step(center.over, None, center.segment), _Step(None, scale.over, scale.segment)
        ]  # fmt: skip
    else:
        steps = [_Step(center.over, scale.over, center.segment or scale.segment or own)]
    if own and steps[-1].segment != own:
        steps.append(_Step(None, None, own))
    return tuple(steps)
