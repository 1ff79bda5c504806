"""AdaNorm: LayerNorm with a gain that decreases with the normalized value."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from graphnorms.kernels.point import Over, Point, accumulation_dtype
from graphnorms.layers.base import Norm
from graphnorms.layers.norm_options import KernelOptions
from graphnorms.layers.stop_gradient import stop_gradient
from graphnorms.segments import Segments


class AdaNorm(Norm):
    r"""Standardize every node, then multiply each value by a gain that depends on the value.

    With $C$ channels, for every node $i$ alone,

    $$ \mu_i = \tfrac{1}{C} \sum_c x_{ic}, \quad
       \sigma_i^2 = \tfrac{1}{C} \sum_c (x_{ic} - \mu_i)^2, \quad
       \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \quad
       y = f\big(\varphi(\hat x) \, \hat x\big), \quad \varphi(z) = s \, (1 - k z). $$

    $\varphi$ is detached: the gradient treats it as a constant. It replaces the $\gamma$ and
    $\beta$ of LayerNorm, which the authors found to overfit; the layer has no parameters. The mean
    of $\varphi$ over a node is $s$. `train()` and `eval()` agree. If all channels of a node are
    equal, the result is 0; with a single channel that is always the case.

    The authors' code divides by $\sigma + \varepsilon$ with the unbiased $\sigma$; this layer uses
    the biased variance of the paper and adds $\varepsilon$ under the root like every layer here.

    Shapes: `x` and the result `(nodes, channels)`. Precision: statistics in float32 or wider; the
    result has the dtype of `x`. The second derivative treats $\varphi$ as a constant, too.

    Args:
        in_channels: Number of channels.
        scale: $s$: $C$ in the paper, 1 in the authors' command.
        k: How fast the gain decreases; 1/10 in the paper.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation, dropout, device, dtype, backend: See `Norm`.

    Raises:
        ValueError: `in_channels`, `scale` or `eps` is not positive, `k` is negative, or `x` is
            not `(nodes, in_channels)`.

    Source: Xu et al., NeurIPS 2019, https://arxiv.org/abs/1911.07013, and the mode `adanorm` in
    `machine translation/fairseq/modules/layer_norm.py` of lancopku/AdaNorm at 546faea.
    """

    def __init__(
        self,
        in_channels: int,
        scale: float = 1.0,
        k: float = 0.1,
        eps: float = 1e-5,
        **options: Unpack[KernelOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        if not scale > 0:
            raise ValueError(f"scale is {scale}, expected a positive number")
        if not k >= 0:
            raise ValueError(f"k is {k}, expected no negative number")
        self.scale = scale
        self.k = k

    def transform(
        self, x: Tensor, segments: Segments | None, mask: Tensor | None, channels: int
    ) -> Tensor:
        """Standardize every node and multiply it by its gain."""
        x = x.to(accumulation_dtype(x.dtype))
        standard = self._standardize(x, Point(Over.CHANNELS, Over.CHANNELS))
        gain = self.scale * (1 - self.k * stop_gradient(standard))
        return gain * standard

    def _own_repr(self) -> str:
        return f"{self.in_channels}, scale={self.scale}, k={self.k}"
