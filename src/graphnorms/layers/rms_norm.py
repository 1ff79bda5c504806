"""RMSNorm: each node divided by the root mean square of its channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphnorms.kernels import Over
from graphnorms.kernels.problem import check_residual
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_eps, check_features, choose_affine
from graphnorms.segments import Segments, as_segments


class RMSNorm(Norm):
    r"""Divide every node by the root mean square of its channels, without a centre.

    With $C$ channels, for every node $i$ alone,

    $$ s_i^2 = \tfrac{1}{C} \sum_c x_{ic}^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i}{\sqrt{s_i^2 + \varepsilon}}\Big). $$

    No mean is subtracted and there is no $\beta$: a node keeps its direction and loses its
    length alone. A positive multiple of `x` gives the same result, up to $\varepsilon$; a node
    of zeros stays one. `train()` and `eval()` agree.

    Shapes: `x` and the result `(nodes, channels)`; `weight` $\gamma$ `(channels,)`. Precision:
    the mean of squares in float32 or wider; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`. `torch.nn.RMSNorm` takes that of the
            dtype of `x` unless told otherwise.
        affine: Whether to learn $\gamma$.
        elementwise_affine: torch's name of `affine`.
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or
            `"silu"`.
        dropout: Share of the entries to drop in training, fused as well; nothing is stored.
        device, dtype: Where and how the parameters are made.
        backend: `"auto"`, or one backend by name, which then never falls back.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, or `x` is not
            `(nodes, in_channels)`.

    Source: Zhang & Sennrich, NeurIPS 2019, https://arxiv.org/abs/1910.07467, as
    `torch.nn.RMSNorm` has it, whose checkpoints load unchanged; the authors' code
    (bzhangGo/rmsnorm at 2e726f1) adds $\varepsilon$ to the root, not below it.
    """

    per_graph = False

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        elementwise_affine: bool | None = None,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__(in_channels, activation, dropout, backend)
        check_eps(eps)
        self.eps = eps
        self.affine = choose_affine(affine, elementwise_affine)
        if self.affine:
            self.weight = nn.Parameter(torch.empty(in_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set `weight` to 1."""
        if self.affine:
            nn.init.ones_(self.weight)

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
        segments = as_segments(None, rows_of=x, mask=mask)
        y, _ = self._normalize(
            x, segments, residual, center=None, scale=Over.CHANNELS,
            weight=self.weight, bias=None, eps=self.eps,
        )  # fmt: skip
        return y

    def _own_repr(self) -> str:
        return f"{self.in_channels}, eps={self.eps}, affine={self.affine}"
