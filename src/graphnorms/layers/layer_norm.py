"""LayerNorm: over the channels of a node, or over all entries of a graph."""

from __future__ import annotations

from typing import Unpack

from graphnorms.layers.argument_checks import choose_affine
from graphnorms.layers.group_norm import GroupNorm
from graphnorms.layers.norm_options import NormOptions


class LayerNorm(GroupNorm):
    r"""Normalize all entries of each graph, or the channels of each node.

    With $S$ the entries of a graph, all nodes and channels (`mode="graph"`), or of a single
    node, all channels (`mode="node"`),

    $$ \mu = \mathrm{mean}(S), \quad \sigma^2 = \mathrm{mean}\big((S - \mu)^2\big), \quad
       y = f\Big(\gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta\Big). $$

    $\gamma$ and $\beta$ are per channel in both modes. There are no running statistics. If all
    entries of a graph are equal, the result is $\beta$.

    Differs from PyG in `mode="graph"` without `batch`, where PyG divides by $\sigma + \varepsilon$
    instead of $\sqrt{\sigma^2 + \varepsilon}$ and so gives another result than for `batch=zeros`;
    and in refusing a wrong mode in the constructor.

    Shapes: `x` and the result `(nodes, channels)`, with `mode="node"` also `(…, channels)`, each
    row by itself, as in torch; `weight` and `bias` `(channels,)`.
    Precision: statistics in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        elementwise_affine: torch's name for `affine`.
        mode: `"graph"` or `"node"`.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `mode` is unknown, `x` is not
            `(nodes, in_channels)`, or `batch` does not assign exactly the rows of `x`.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450, as in torch_geometric 2.8 (726310a),
    with the same parameter names: its checkpoints load unchanged.
    """

    _one_call = True

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        mode: str = "graph",
        *,
        bias: bool = True,
        elementwise_affine: bool | None = None,
        **options: Unpack[NormOptions],
    ) -> None:
        affine = choose_affine(affine, elementwise_affine)
        super().__init__(in_channels, 1, eps, affine, mode, bias=bias, **options)
        self.takes_rows = mode == "node"

    def _own_repr(self) -> str:
        return f"{self.in_channels}, affine={self.affine}, mode={self.mode}"
