"""GraphNorm: per-graph normalization that learns how much of the mean to remove."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphnorms.kernels import Over
from graphnorms.kernels.api import normalize_with_statistics
from graphnorms.layers.checks import (
    check_activation,
    check_channels,
    check_eps,
    check_features,
    with_activation,
)
from graphnorms.segments import Segments, as_segments


class GraphNorm(nn.Module):
    r"""Normalize each graph and channel after removing a learned share of the mean.

    For a graph with node set $V$, independently in every channel,

    $$ \mu = \tfrac{1}{|V|} \sum_{i \in V} x_i, \quad
       s^2 = \tfrac{1}{|V|} \sum_{i \in V} (x_i - \alpha \mu)^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i - \alpha \mu}{\sqrt{s^2 + \varepsilon}} + \beta\Big). $$

    $s^2 = \mathrm{Var}(x) + (1 - \alpha)^2 \mu^2$: the variance only at $\alpha = 1$, where
    the layer is InstanceNorm. There are no running statistics: `train()` and `eval()` agree.
    A channel that is constant within a graph keeps its sign but loses its size. A graph of one
    node gives $\beta$ at $\alpha = 1$.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`, where every
    position between is normalized alone; `weight` $\gamma$, `bias` $\beta$ and `mean_scale`
    $\alpha$ `(channels,)`. Precision: statistics in float32 or wider; the result has the dtype
    of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`. The authors' code has 1e-6, PyG 1e-5.
        activation: $f$, fused into the same pass: `None` or `"relu"`.
        device, dtype: Where and how the parameters are made.
        backend: `"auto"`, or one backend by name, which then never falls back.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `x` is not `(nodes, in_channels)`,
            or `batch` does not assign exactly the rows of `x`.

    Source: Cai et al., ICML 2021, https://arxiv.org/abs/2009.03294. Parameters are named as in
    PyG, whose `GraphNorm` checkpoints load unchanged.
    """

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        *,
        activation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        check_channels(in_channels)
        check_eps(eps)
        check_activation(activation)
        self.in_channels = in_channels
        self.eps = eps
        self.activation = activation
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        self.mean_scale = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `weight` and `mean_scale` to 1 and `bias` to 0."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.mean_scale)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Normalize the graphs of `x`; `batch` names the graph of every node (`None`: one)."""
        check_features(x, self.in_channels, positions=True)
        segments = as_segments(batch, rows_of=x, num_segments=batch_size)
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        mean_scale: Tensor = self.mean_scale
        shape = x.shape
        if len(shape) > 2:
            copies = shape[1:-1].numel()
            x = x.flatten(1)
            weight, bias, mean_scale = (p.repeat(copies) for p in (weight, bias, mean_scale))
        y, _, _ = normalize_with_statistics(
            x, segments,
            center=Over.NODES, scale=Over.NODES,
            mean_scale=mean_scale, weight=weight, bias=bias,
            eps=self.eps, activation=self.activation, backend=self.backend,
        )  # fmt: skip
        return y if len(shape) == 2 else y.view(shape)

    def extra_repr(self) -> str:
        """Return the channels, as PyG does, and the activation if there is one."""
        return with_activation(str(self.in_channels), self.activation)
