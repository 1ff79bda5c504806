"""GroupNorm: groups of channels, per node or per graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Unpack

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import Over, Point
from graphnorms.layers.argument_checks import check_channels, check_groups
from graphnorms.layers.base import Norm
from graphnorms.layers.norm_options import NormOptions

_MODES: Final = {"graph": Over.BOTH, "node": Over.CHANNELS}


class GroupNorm(Norm):
    r"""Normalize each group of channels, over a node or over all nodes of a graph.

    The channels are divided into groups of consecutive channels of equal size. With $S$ the entries
    of a group in a single node (`mode="node"`) or in all nodes of a graph (`mode="graph"`),

    $$ \mu = \mathrm{mean}(S), \quad \sigma^2 = \mathrm{mean}\big((S - \mu)^2\big), \quad
       y = f\Big(\gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta\Big). $$

    $\gamma$ and $\beta$ are per channel. One group is LayerNorm of the same mode. As many groups as
    channels are InstanceNorm in mode `"graph"`; in mode `"node"` a group is then a single number,
    and the result is $\beta$. Mode `"node"` equals `torch.nn.GroupNorm` on `(nodes, channels)`; in
    mode `"graph"` the nodes of a graph take the role of the pixels of an image. There are no
    running statistics.

    Shapes: `x` and the result `(nodes, channels)`; `weight` and `bias` `(channels,)`.
    Precision: statistics in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        num_groups: Number of groups, a divisor of `in_channels`.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        mode: `"node"` or `"graph"`.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `num_groups` does not divide
            `in_channels`, `mode` is unknown, `x` is not `(nodes, in_channels)`, or `batch` does
            not assign exactly the rows of `x`.

    Source: Wu & He, ECCV 2018, https://arxiv.org/abs/1803.08494, as in `torch.nn.GroupNorm`: its
    checkpoints load unchanged.
    """

    _one_call = True

    @classmethod
    def point_with(cls, arguments: Mapping[str, Any]) -> Point:
        """See `Norm`; depends on `mode` and `num_groups`."""
        mode = arguments.get("mode", "node")
        if mode not in _MODES:
            raise unknown_name("mode", str(mode), _MODES)
        segment = "graph" if mode == "graph" else ""
        return Point(_MODES[mode], _MODES[mode], segment, arguments.get("num_groups", 1))

    def __init__(
        self,
        in_channels: int,
        num_groups: int,
        eps: float = 1e-5,
        affine: bool = True,
        mode: str = "node",
        *,
        bias: bool = True,
        **options: Unpack[NormOptions],
    ) -> None:
        check_channels(in_channels)
        check_groups("num_groups", num_groups, in_channels)
        point = self.point_with({"mode": mode, "num_groups": num_groups})
        super().__init__(in_channels, point=point, eps=eps, **options)
        self.num_groups = num_groups
        self.affine = affine
        self.mode = mode
        self._add_parameters(in_channels, options, weight=affine, bias=affine and bias)

    def _own_repr(self) -> str:
        return f"{self.in_channels}, {self.num_groups}, affine={self.affine}, mode={self.mode}"
