"""EquivariantLayerNorm: degree 0 by LayerNorm, the others by their root mean square."""

from __future__ import annotations

from typing import Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.point import Over, Parameters, Point
from graphnorms.layers.equivariant.degrees_norm import DegreesNorm
from graphnorms.layers.equivariant.irreps_norm import NORMALIZATIONS
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

    point = Point(Over.CHANNELS, Over.CHANNELS)

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
            # It holds parameters under the names of checkpoints and is never called.
            self.norm_l0 = LayerNorm(
                in_channels, eps, affine, mode="node", backend=self.backend, **place(options)
            )
        self._add_tables(options.get("device"))

    def scale_of_degrees(self, degree: Tensor) -> tuple[Tensor, Tensor]:
        """See `DegreesNorm`."""
        components, rest = 2 * degree + 1, (degree > 0).to(degree.dtype)
        if self.normalization == NORMALIZATIONS[1]:
            divisors = torch.ones_like(degree)
        elif self.degrees == "each":
            divisors = components
        elif self.std_balance_degrees:
            divisors = components * self.lmax
        else:
            divisors = rest * (self.components - 1)
        # Degree 0 is alone, with one component.
        return degree if self.degrees == "each" else rest, torch.where(degree == 0, 1, divisors)

    def parameters_in_columns(self) -> Parameters:
        """See `CellsNorm`."""
        weight = self.affine_weight
        if weight is None:
            return None, None, None
        if self.degrees == "each":
            bias = self.affine_bias
        else:
            weight = torch.cat((self.norm_l0.weight.unsqueeze(0), weight))
            bias = self.norm_l0.bias
        return None, weight.index_select(0, self._degree).flatten(), self._of_scalars(bias)
