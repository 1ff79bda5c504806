"""EquivariantLayerNorm: degree 0 by LayerNorm, the others by their root mean square."""

from __future__ import annotations

from typing import Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.layers.equivariant.degrees_norm import DegreesNorm
from graphnorms.layers.layer_norm import LayerNorm
from graphnorms.layers.norm_options import DegreesOptions, place

_DEGREES: Final = ("each", "scalars-and-rest")


class EquivariantLayerNorm(DegreesNorm):
    r"""Normalize the degrees of a node, each by itself or all above 0 together.

    With $x_{kc}$ component $k$ of channel $c$, degree 0 gets LayerNorm over its channels, with
    $\gamma$ and $\beta$. For `degrees="each"`, every degree $l > 0$ gets

    $$ s_l^2 = \mathrm{mean}_c \tfrac{1}{2l+1} \sum_{k \in l} x_{kc}^2, \quad
       y_{kc} = \gamma_{lc} \frac{x_{kc}}{\sqrt{s_l^2 + \varepsilon}}, $$

    and for `degrees="scalars-and-rest"` all of them share
    $s^2 = \mathrm{mean}_c \sum_{k > 0} w_k x_{kc}^2$ with $w_k = 1 / ((2l + 1) L)$, $L$ = `lmax`;
    without `std_balance_degrees` $w_k = 1 / ((L + 1)^2 - 1)$. `normalization="norm"` sums the
    squares of components. Where a degree is 0, its gradient is $\gamma / \sqrt{\varepsilon}$ times
    the incoming one. `train()` and `eval()` agree.

    Shapes: `x` and the result `(nodes, (lmax + 1)², channels)`; for `"each"` `affine_weight`
    `(lmax + 1, channels)` and `affine_bias` `(channels,)`; else `norm_l0.weight`, `norm_l0.bias`
    `(channels,)` and `affine_weight` `(lmax, channels)`. Precision: statistics in float32 or wider;
    the result has the dtype of `x`.

    Args:
        in_channels, lmax, eps: See `DegreesNorm`.
        affine: Whether to learn $\gamma$ and $\beta$.
        degrees: `"each"` or `"scalars-and-rest"`.
        std_balance_degrees: Whether every degree above 0 has the same weight, where they share a
            scale.
        normalization, device, dtype, backend: See `DegreesNorm`.

    Raises:
        ValueError: `lmax` is negative, `degrees` or `normalization` is unknown, or `x` is not of
            the shape above.

    Source: `EquivariantLayerNormArray` (`layer_norm`) and
    `EquivariantLayerNormArraySphericalHarmonics` (`layer_norm_sh`) of fairchem-core 2.24.0,
    `models/uma/nn/layer_norm.py`: their checkpoints load unchanged.
    """

    def __init__(
        self,
        in_channels: int,
        lmax: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        degrees: str = _DEGREES[0],
        std_balance_degrees: bool = True,
        **options: Unpack[DegreesOptions],
    ) -> None:
        if degrees not in _DEGREES:
            raise unknown_name("degrees", degrees, _DEGREES)
        super().__init__(in_channels, lmax, eps, **options)
        self.degrees = degrees
        self.std_balance_degrees = std_balance_degrees
        if degrees == "each":
            self._add_weight(lmax + 1, options, affine=affine)
            bias = nn.Parameter(torch.zeros(in_channels, **place(options)))
            self.register_parameter("affine_bias", bias if affine else None)
        else:
            self._add_weight(lmax, options, affine=affine)
            self.norm_l0 = LayerNorm(
                in_channels, eps, affine, mode="node", backend=self.backend, **place(options)
            )

    def reset_parameters(self) -> None:
        """Set biases to 0 and all other parameters to 1."""
        super().reset_parameters()
        if self.degrees != _DEGREES[0]:
            self.norm_l0.reset_parameters()

    def normalized(self, x: Tensor) -> Tensor:
        """See `DegreesNorm`."""
        if self.degrees == "each":
            return torch.cat([self._by_itself(x, degree) for degree in range(self.lmax + 1)], 1)
        scalars: Tensor = self.norm_l0(x[:, 0]).unsqueeze(1)
        if not self.lmax:
            return scalars
        degree = self._degree[1:]
        divisors = None
        if self.normalization == "norm":
            divisors = torch.ones_like(degree)
        elif self.std_balance_degrees:
            divisors = (2 * degree + 1) * self.lmax
        weight = None if self.affine_weight is None else self.affine_weight[degree - 1]
        rest = self._by_power(x[:, 1:], weight, divisors)
        return torch.cat((scalars.to(rest.dtype), rest), 1)

    def _by_itself(self, x: Tensor, degree: int) -> Tensor:
        of_degree = x[:, degree**2 : (degree + 1) ** 2]
        count = 2 * degree + 1
        summed = self.normalization == "norm" and degree
        divisors = torch.ones_like(self._degree[:count]) if summed else None
        weight, bias = self.affine_weight, None
        if weight is not None:
            weight = weight[degree].expand(count, -1)
            bias = None if degree else self.affine_bias
        return self._by_power(of_degree, weight, divisors, bias, centred=not degree)
