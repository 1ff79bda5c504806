"""LayerNorm: over the channels of a node, or over all entries of a graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels import Over
from graphnorms.kernels.problem import check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import (
    check_eps,
    check_features,
)
from graphnorms.segments import Segments, as_segments

_MODES = {"graph": Over.BOTH, "node": Over.CHANNELS}


class LayerNorm(Norm):
    r"""Normalize the entries of each graph together, or those of each node.

    With $S$ the entries of a graph, all nodes and channels (`mode="graph"`), or of a single
    node, all channels (`mode="node"`),

    $$ \mu = \mathrm{mean}(S), \quad \sigma^2 = \mathrm{mean}\big((S - \mu)^2\big), \quad
       y = f\Big(\gamma \, \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta\Big). $$

    $\gamma$ and $\beta$ are per channel in both modes. There are no running statistics. A graph
    whose entries are all equal gives $\beta$.

    Differs from PyG in `mode="graph"` without `batch`, where PyG divides by
    $\sigma + \varepsilon$ instead of $\sqrt{\sigma^2 + \varepsilon}$ and so gives another result
    than for `batch=zeros`; and in refusing a wrong mode at once.

    Shapes: `x` and the result `(nodes, channels)`; `weight` and `bias` `(channels,)`.
    Precision: statistics in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        mode: `"graph"` or `"node"`.
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or
            `"silu"`.
        dropout: Share of the entries to drop in training, fused as well; nothing is stored.
        device, dtype: Where and how the parameters are made.
        backend: `"auto"`, or one backend by name, which then never falls back.
        process_group: Ranks over which every graph is spread, graph by graph under the same id:
            `"world"`, a `ProcessGroup`, or `None` where a rank has whole graphs.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `mode` is unknown, `x` is not
            `(nodes, in_channels)`, or `batch` does not assign exactly the rows of `x`.

    Source: Ba et al. 2016, https://arxiv.org/abs/1607.06450. Parameters are named as in PyG,
    whose checkpoints load unchanged.
    """

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        mode: str = "graph",
        *,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__(in_channels, activation, dropout, backend)
        check_eps(eps)
        if mode not in _MODES:
            raise unknown_name("mode", str(mode), _MODES)
        self.eps = eps
        self.affine = affine
        self.mode = mode
        self.statistics_of = "graph" if mode == "graph" else ""
        self.per_graph = mode == "graph"
        if affine:
            self.weight = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        self.process_group = process_group
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `weight` to 1 and `bias` to 0."""
        if self.affine:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`; in mode `"node"`, `batch` makes no difference and is not looked at.

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        if self.mode == "node":
            segments = as_segments(None, rows_of=x, mask=mask)
        else:
            segments = self._graphs(x, batch, batch_size, mask)
        over = _MODES[self.mode]
        y, _ = self._normalize(
            x, segments, residual, center=over, scale=over,
            weight=self.weight, bias=self.bias, eps=self.eps,
        )  # fmt: skip
        return y

    def _own_repr(self) -> str:
        return f"{self.in_channels}, affine={self.affine}, mode={self.mode}"
