"""RMSNorm: divides each node by the root mean square of its channels."""

from __future__ import annotations

from typing import Any, Unpack

import torch
from torch import Tensor

from graphnorms.kernels.point import Over, Point, accumulation_dtype
from graphnorms.layers.argument_checks import choose_affine
from graphnorms.layers.base import Equation, Norm
from graphnorms.layers.norm_options import KernelOptions
from graphnorms.segments import Segments


class RMSNorm(Norm):
    r"""Divide every node by the root mean square of its channels.

    With $C$ channels, for every node $i$ alone,

    $$ s_i^2 = \tfrac{1}{C} \sum_c x_{ic}^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i}{\sqrt{s_i^2 + \varepsilon}}\Big). $$

    No mean is subtracted and there is no $\beta$: a node keeps its direction and loses its length.
    A positive multiple of `x` gives the same result, up to $\varepsilon$; a node of zeros stays
    zero. `train()` and `eval()` agree.

    Shapes: `x` and the result `(nodes, channels)` or `(…, channels)`, each row by itself; `weight`
    $\gamma$ `(channels,)`. Precision: the mean of squares in float32 or wider; the result has the
    dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`; `None`, the default of `torch.nn.RMSNorm`,
            for the machine epsilon of the dtype of the statistics: that of float64 for a float64
            `x`, else that of float32.
        affine: Whether to learn $\gamma$.
        elementwise_affine: torch's name for `affine`.
        activation, dropout, device, dtype, backend: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, or `x` is not
            `(nodes, in_channels)`.

    Source: Zhang & Sennrich, NeurIPS 2019, https://arxiv.org/abs/1910.07467, as in
    `torch.nn.RMSNorm`: its checkpoints load unchanged. The authors' code (bzhangGo/rmsnorm at
    2e726f1) adds $\varepsilon$ outside the root.
    """

    eps: Any

    point = Point(None, Over.CHANNELS)
    takes_rows = True
    _one_call = True

    def __init__(
        self,
        in_channels: int,
        eps: float | None = 1e-5,
        affine: bool = True,
        *,
        elementwise_affine: bool | None = None,
        **options: Unpack[KernelOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        self.eps = eps
        self.affine = choose_affine(affine, elementwise_affine)
        self._add_parameters(in_channels, options, weight=self.affine, bias=False)

    def equation(self, x: Tensor, segments: Segments, channels: int) -> Equation:
        """See `Norm`; ε depends on the dtype of x if it is None."""
        eps = self.eps
        if eps is None:
            eps = torch.finfo(accumulation_dtype(x.dtype)).eps
        return self.point, None, self.weight, None, eps

    def _own_repr(self) -> str:
        return f"{self.in_channels}, eps={self.eps}, affine={self.affine}"
