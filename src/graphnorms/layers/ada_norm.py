"""AdaNorm: LayerNorm of a node whose gain falls with the value itself."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels import Over
from graphnorms.kernels.api import normalize
from graphnorms.kernels.problem import accumulation_dtype, check_residual
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_eps, check_features
from graphnorms.layers.constant import constant
from graphnorms.segments import Segments, as_segments, check_mask


class AdaNorm(Norm):
    r"""Standardize every node, then multiply each value by a gain that it chooses itself.

    With $C$ channels, for every node $i$ alone,

    $$ \mu_i = \tfrac{1}{C} \sum_c x_{ic}, \quad
       \sigma_i^2 = \tfrac{1}{C} \sum_c (x_{ic} - \mu_i)^2, \quad
       \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}}, \quad
       y = f\big(\varphi(\hat x) \, \hat x\big), \quad \varphi(z) = s \, (1 - k z). $$

    $\varphi$ is a constant for the gradient: it is detached, so that the derivative is that of
    a linear map of $\hat x$. It stands where LayerNorm has its $\gamma$ and $\beta$, which the
    authors find to overfit; there are no parameters. The mean of $\varphi$ over a node is $s$.
    `train()` and `eval()` agree. A node whose channels are all equal, as with a single channel,
    gives 0.

    The authors' code divides by $\sigma + \varepsilon$ with the unbiased $\sigma$; here it is
    the variance of the paper and $\varepsilon$ stands as in every layer.

    Shapes: `x` and the result `(nodes, channels)`. Precision: statistics in float32 or wider;
    the result has the dtype of `x`. The second derivative keeps $\varphi$ constant, too.

    Args:
        in_channels: Number of channels.
        scale: $s$, $C$ in the paper; 1 in the command that the authors give.
        k: How fast the gain falls, 1/10 in the paper.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation: $f$: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or `"silu"`.
        dropout: Share of the entries to drop in training.
        device, dtype: Taken like every layer's; there are no parameters.
        backend: `"auto"`, or one backend by name, which then never falls back.

    Raises:
        ValueError: `in_channels`, `scale` or `eps` is not positive, `k` is negative, or `x` is
            not `(nodes, in_channels)`.

    Source: Xu et al., NeurIPS 2019, https://arxiv.org/abs/1911.07013, and the mode `adanorm` in
    `machine translation/fairseq/modules/layer_norm.py` of lancopku/AdaNorm at 546faea.
    """

    per_graph = False

    def __init__(
        self,
        in_channels: int,
        scale: float = 1.0,
        k: float = 0.1,
        eps: float = 1e-5,
        *,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(in_channels, activation, dropout, backend)
        check_eps(eps)
        if not scale > 0:
            raise ValueError(f"scale is {scale}, expected a positive number")
        if not k >= 0:
            raise ValueError(f"k is {k}, expected no negative number")
        self.scale = scale
        self.k = k
        self.eps = eps

    def reset_parameters(self) -> None:
        """Do nothing: there are none."""

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`; `batch` makes no difference and is not looked at.

        Args:
            x: The features.
            batch, batch_size: Taken like every layer's.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        if mask is not None:
            check_mask(mask, x.shape[0], x.device)
        return self._finish(x, residual, mask, self._adapt)

    def _adapt(self, x: Tensor) -> Tensor:
        wide = x.to(accumulation_dtype(x.dtype))
        standard, _ = normalize(
            wide, as_segments(None, rows_of=wide), center=Over.CHANNELS, scale=Over.CHANNELS,
            weight=None, bias=None, eps=self.eps, activation=None, dropout=0.0, seed=None,
            residual=None, backend=self.backend,
        )  # fmt: skip
        gain = self.scale * (1 - self.k * constant(standard))
        return (gain * standard).to(x.dtype)

    def _own_repr(self) -> str:
        return f"{self.in_channels}, scale={self.scale}, k={self.k}"
