"""GroupNorm: groups of channels, of each node or of each graph."""

from __future__ import annotations

import torch

from graphnorms.kernels.ranks import Group
from graphnorms.layers.norm_of_groups import NormOfGroups


class GroupNorm(NormOfGroups):
    r"""Normalize each group of channels, over a node or over all nodes of a graph.

    The channels are cut into groups of neighbours, all of one size. With $S$ the entries of a
    group in a single node (`mode="node"`) or in all nodes of a graph (`mode="graph"`),

    $$ \mu = \mathrm{mean}(S), \quad \sigma^2 = \mathrm{mean}\big((S - \mu)^2\big), \quad
       y = f\Big(\gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta\Big). $$

    $\gamma$ and $\beta$ are per channel. One group is LayerNorm of the same mode; as many groups
    as channels are InstanceNorm in mode `"graph"`, and give $\beta$ in mode `"node"`, where a
    group is then a single number. In mode `"node"` it is what `torch.nn.GroupNorm` makes of
    `(nodes, channels)`; mode `"graph"` has the nodes of a graph in the place of the pixels of an
    image. There are no running statistics.

    Shapes: `x` and the result `(nodes, channels)`; `weight` and `bias` `(channels,)`.
    Precision: statistics in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        num_groups: Number of groups; it divides `in_channels`.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether $\beta$ is among them.
        mode: `"node"` or `"graph"`.
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or
            `"silu"`.
        dropout: Share of the entries to drop in training, fused as well; nothing is stored.
        device, dtype: Where and how the parameters are made.
        backend: `"auto"`, or one backend by name, which then never falls back.
        process_group: Ranks over which every graph is spread, graph by graph under the same id:
            `"world"`, a `ProcessGroup`, or `None` where a rank has whole graphs.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `num_groups` does not divide
            `in_channels`, `mode` is unknown, `x` is not `(nodes, in_channels)`, or `batch` does
            not assign exactly the rows of `x`.

    Source: Wu & He, ECCV 2018, https://arxiv.org/abs/1803.08494, as
    `torch.nn.GroupNorm` has it, whose checkpoints load unchanged.
    """

    def __init__(
        self,
        in_channels: int,
        num_groups: int,
        eps: float = 1e-5,
        affine: bool = True,
        mode: str = "node",
        *,
        bias: bool = True,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__(
            in_channels, num_groups, eps, affine, mode, bias=bias, activation=activation,
            dropout=dropout, device=device, dtype=dtype, backend=backend,
            process_group=process_group,
        )  # fmt: skip

    def _own_repr(self) -> str:
        return f"{self.in_channels}, {self.num_groups}, affine={self.affine}, mode={self.mode}"
