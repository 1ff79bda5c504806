"""GraphNorm: normalization per graph with a learned share of the mean to remove."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor, nn

from graphnorms.kernels.point import Over, Point
from graphnorms.layers.base import Equation, Norm
from graphnorms.layers.norm_options import NormOptions
from graphnorms.segments import Segments


class GraphNorm(Norm):
    r"""Normalize each channel of each graph after removing a learned share of the mean.

    For a graph with node set $V$, independently in every channel,

    $$ \mu = \tfrac{1}{|V|} \sum_{i \in V} x_i, \quad
       s^2 = \tfrac{1}{|V|} \sum_{i \in V} (x_i - \alpha \mu)^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i - \alpha \mu}{\sqrt{s^2 + \varepsilon}} + \beta\Big). $$

    $s^2 = \mathrm{Var}(x) + (1 - \alpha)^2 \mu^2$, which is the variance only at $\alpha = 1$,
    where the layer is InstanceNorm. There are no running statistics: `train()` and `eval()` agree.
    A channel that is constant within a graph loses its size: $c$ becomes
    $\gamma \, \mathrm{sign}(c \, (1 - \alpha)) + \beta$, so the result keeps the sign for
    $\alpha < 1$, has the opposite one for $\alpha > 1$, and none at $\alpha = 1$. A graph of one
    node is such a case. If every channel of every graph is constant (regular or complete graphs
    without features), the output at $\alpha = 1$ is exactly $\beta$: with $\beta \le 0$ a ReLU
    after it passes no gradient, and $\alpha$ never moves; initialize it to another value then.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`, where every position
    between is normalized separately; `weight` $\gamma$, `bias` $\beta$ and `mean_scale` $\alpha$
    `(channels,)`. Precision: statistics in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`. The authors' code has 1e-6, PyG 1e-5.
        bias: Whether to learn $\beta$.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `x` is not `(nodes, in_channels)`,
            or `batch` does not assign exactly the rows of `x`.

    Source: Cai et al., ICML 2021, https://arxiv.org/abs/2009.03294; `Norm` in
    `GraphNorm_ws/gnn_ws/gnn_example/model/Norm/norm.py` of lsj2408/GraphNorm at 182d10a, and
    torch_geometric 2.8 (726310a), with the same parameter names: its checkpoints load unchanged.
    """

    point = Point(Over.NODES, Over.NODES, "graph")
    takes_positions = True
    _one_call = True
    mean_scale: nn.Parameter

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        *,
        bias: bool = True,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        self._add_parameters(in_channels, options, weight=True, bias=bias, mean_scale=True)

    def equation(self, x: Tensor, segments: Segments, channels: int) -> Equation:
        """Return the point, with the parameters repeated for each position."""
        copies = x.shape[1] // channels
        parameters = (self.mean_scale, self.weight, self.bias)
        if copies == 1:
            return self.point, *parameters, self.eps
        repeated = [None if each is None else each.repeat(copies) for each in parameters]
        return self.point, repeated[0], repeated[1], repeated[2], self.eps
