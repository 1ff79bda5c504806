"""NodeNorm: divides each node by a root of the standard deviation of its channels."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from graphnorms.kernels.point import accumulation_dtype
from graphnorms.layers.base import Norm
from graphnorms.layers.norm_options import PlainOptions
from graphnorms.segments import Segments


class NodeNorm(Norm):
    r"""Divide every node by a root of the standard deviation of its channels.

    With $C$ channels, for every node $i$ alone,

    $$ \mu_i = \tfrac{1}{C} \sum_c x_{ic}, \quad
       \sigma_i = \Big(\tfrac{1}{C} \sum_c (x_{ic} - \mu_i)^2 + \varepsilon\Big)^{1/2}, \quad
       y_i = f\big(x_i / \sigma_i^{1/p}\big). $$

    The mean is not subtracted, so a node keeps its direction, and for $p > 1$ a part of its size.
    $p = 1$ gives every node the same spread; a larger $p$ changes less. The layer is designed for
    deep networks in which the variances of nodes diverge. There are no parameters. `train()` and
    `eval()` agree.

    If all channels of a node are equal, which is always the case with a single channel, the node is
    multiplied by $\varepsilon^{-1/(2p)}$.

    Shapes: `x` and the result `(nodes, channels)`. Precision: statistics in float32 or wider;
    the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        p: The root, 1 or more.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation, dropout, device, dtype: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `p` is below 1, or `x` is not
            `(nodes, in_channels)`.

    Source: Zhou et al. 2020, https://arxiv.org/abs/2006.07107; the biased variance, the place of
    $\varepsilon$ and the default of $p$ follow `NodeNorm` with `"pr"` in `layers.py` of
    miafei/NodeNorm at 85b6311.
    """

    def __init__(
        self, in_channels: int, p: float = 2.0, eps: float = 1e-5, **options: Unpack[PlainOptions]
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        if not p >= 1:
            raise ValueError(f"p is {p}, expected a root of 1 or more")
        self.p = p

    def transform(
        self, x: Tensor, segments: Segments | None, mask: Tensor | None, channels: int
    ) -> Tensor:
        """Divide every node by a root of its spread."""
        x = x.to(accumulation_dtype(x.dtype))
        # Relative to an entry, so that the error does not grow with mean / spread.
        relative = x - x[:, :1].detach()
        variance = (relative - relative.mean(1, keepdim=True)).square().mean(1, keepdim=True)
        return x * (variance + self.eps).pow(-0.5 / self.p)

    def _own_repr(self) -> str:
        return f"{self.in_channels}, p={self.p}"
