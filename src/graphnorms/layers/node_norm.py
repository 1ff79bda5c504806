"""NodeNorm: each node divided by a root of the standard deviation of its channels."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.problem import accumulation_dtype, check_residual
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_eps, check_features
from graphnorms.segments import Segments, check_mask


class NodeNorm(Norm):
    r"""Divide every node by a root of the standard deviation of its channels.

    With $C$ channels, for every node $i$ alone,

    $$ \mu_i = \tfrac{1}{C} \sum_c x_{ic}, \quad
       \sigma_i = \Big(\tfrac{1}{C} \sum_c (x_{ic} - \mu_i)^2 + \varepsilon\Big)^{1/2}, \quad
       y_i = f\big(x_i / \sigma_i^{1/p}\big). $$

    The mean is in $\sigma$ only: it is not subtracted, so a node keeps its direction, and for
    $p > 1$ a part of its size. $p = 1$ gives every node the same spread; the larger $p$, the less
    is changed. Deep networks, whose nodes come to differ in variance, are what it is made for.
    There are no parameters and no $\gamma$ or $\beta$. `train()` and `eval()` agree.

    A node whose channels are all equal, as with a single channel, is multiplied by
    $\varepsilon^{-1/(2p)}$.

    Shapes: `x` and the result `(nodes, channels)`. Precision: statistics in float32 or wider;
    the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        p: The root, 1 or more.
        eps: $\varepsilon$, in the squared unit of `x`.
        activation: $f$: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or `"silu"`.
        dropout: Share of the entries to drop in training.
        device, dtype: Taken like every layer's; there are no parameters.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `p` is below 1, or `x` is not
            `(nodes, in_channels)`.

    Source: Zhou et al. 2020, https://arxiv.org/abs/2006.07107; the biased variance, the place
    of $\varepsilon$ and the default of $p$ are those of `NodeNorm` with `"pr"` in `layers.py` of
    miafei/NodeNorm at 85b6311.
    """

    per_graph = False

    def __init__(
        self,
        in_channels: int,
        p: float = 2.0,
        eps: float = 1e-5,
        *,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, activation, dropout)
        check_eps(eps)
        if not p >= 1:
            raise ValueError(f"p is {p}, expected a root of 1 or more")
        self.p = p
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
        return self._finish(x, residual, mask, self._divide)

    def _divide(self, x: Tensor) -> Tensor:
        wide = x.to(accumulation_dtype(x.dtype))
        # Relative to an entry, so that the error does not grow with the mean over the spread.
        relative = wide - wide[:, :1].detach()
        variance = (relative - relative.mean(1, keepdim=True)).square().mean(1, keepdim=True)
        return (wide * (variance + self.eps).pow(-0.5 / self.p)).to(x.dtype)

    def _own_repr(self) -> str:
        return f"{self.in_channels}, p={self.p}"
