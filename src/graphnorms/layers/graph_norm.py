"""GraphNorm: per-graph normalization that learns how much of the mean to remove."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphnorms.kernels import Over
from graphnorms.kernels.problem import check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import (
    check_eps,
    check_features,
)
from graphnorms.segments import Segments


class GraphNorm(Norm):
    r"""Normalize each graph and channel after removing a learned share of the mean.

    For a graph with node set $V$, independently in every channel,

    $$ \mu = \tfrac{1}{|V|} \sum_{i \in V} x_i, \quad
       s^2 = \tfrac{1}{|V|} \sum_{i \in V} (x_i - \alpha \mu)^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i - \alpha \mu}{\sqrt{s^2 + \varepsilon}} + \beta\Big). $$

    $s^2 = \mathrm{Var}(x) + (1 - \alpha)^2 \mu^2$: the variance only at $\alpha = 1$, where
    the layer is InstanceNorm. There are no running statistics: `train()` and `eval()` agree.
    A channel that is constant within a graph loses its size: of $c$ is left
    $\gamma \, \mathrm{sign}(c \, (1 - \alpha)) + \beta$, so its sign for $\alpha < 1$, the opposite
    one for $\alpha > 1$, and none at $\alpha = 1$; a graph of one node is such a case. Where every
    channel of every graph is constant (regular graphs without features, complete ones) the output
    at $\alpha = 1$ is exactly $\beta$: a ReLU behind it passes no gradient, and $\alpha$ stays
    where it begins; begin elsewhere then.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`, where every
    position between is normalized alone; `weight` $\gamma$, `bias` $\beta$ and `mean_scale`
    $\alpha$ `(channels,)`. Precision: statistics in float32 or wider; the result has the dtype
    of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`. The authors' code has 1e-6, PyG 1e-5.
        bias: Whether to learn $\beta$.
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or
            `"silu"`.
        dropout: Share of the entries to drop in training, fused as well; nothing is stored.
        device, dtype: Where and how the parameters are made.
        backend: `"auto"`, or one backend by name, which then never falls back.
        process_group: Ranks over which every graph is spread, graph by graph under the same id:
            `"world"`, a `ProcessGroup`, or `None` where a rank has whole graphs.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `x` is not `(nodes, in_channels)`,
            or `batch` does not assign exactly the rows of `x`.

    Source: Cai et al., ICML 2021, https://arxiv.org/abs/2009.03294; `Norm` in
    `GraphNorm_ws/gnn_ws/gnn_example/model/Norm/norm.py` of lsj2408/GraphNorm at 182d10a, and
    torch_geometric 2.8 (726310a), by whose names parameters go and whose checkpoints load
    unchanged.
    """

    statistics_of = "graph"
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        *,
        bias: bool = True,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__(in_channels, activation, dropout, backend)
        check_eps(eps)
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        if bias:
            self.bias = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.mean_scale = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        self.process_group = process_group
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `weight` and `mean_scale` to 1 and `bias` to 0."""
        nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        nn.init.ones_(self.mean_scale)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize the graphs of `x`; `batch` names the graph of every node (`None`: one).

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, self.in_channels, positions=True)
        check_residual(residual, x)
        segments = self._graphs(x, batch, batch_size, mask)
        weight: Tensor = self.weight
        bias = self.bias
        mean_scale: Tensor = self.mean_scale
        shape = x.shape
        if len(shape) > 2:
            copies = shape[1:-1].numel()
            x = x.flatten(1)
            residual = None if residual is None else residual.flatten(1)
            weight, mean_scale = weight.repeat(copies), mean_scale.repeat(copies)
            bias = None if bias is None else bias.repeat(copies)
        y, _ = self._normalize(
            x, segments, residual, center=Over.NODES, scale=Over.NODES,
            mean_scale=mean_scale, weight=weight, bias=bias, eps=self.eps,
        )  # fmt: skip
        return y if len(shape) == 2 else y.view(shape)
