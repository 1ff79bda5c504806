"""EquivariantRMSNorm: all degrees of a node by one scale."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from graphnorms.kernels.point import Over, Parameters, Point
from graphnorms.layers.equivariant.degrees_norm import DegreesNorm
from graphnorms.layers.equivariant.irreps_norm import NORMALIZATIONS
from graphnorms.layers.norm_options import DegreesOptions, place


class EquivariantRMSNorm(DegreesNorm):
    r"""Divide all degrees of a node by one root mean square.

    With $x_{kc}$ component $k$ of channel $c$ and $l(k)$ its degree, $L$ = `lmax`,

    $$ o_{kc} = x_{kc} - [k = 0] \, \mathrm{mean}_c x_{0c}, \quad
       s^2 = \mathrm{mean}_c \sum_k w_k o_{kc}^2, \quad
       y_{kc} = \gamma_{l(k) c} \frac{o_{kc}}{\sqrt{s^2 + \varepsilon}} + [k = 0] \, \beta_c $$

    with $w_k = 1 / ((2 l(k) + 1)(L + 1))$, so that every degree has the same weight; without
    `std_balance_degrees` $w_k = 1 / (L + 1)^2$, or 1 for `normalization="norm"`. Without
    `centering` nothing is subtracted and there is no $\beta$.

    It is not RMSNorm over the entries of a node, from which it differs wherever degrees differ in
    size, and degree 0 by itself has no unit variance: only the mean over degrees has. Where a node
    is 0 everywhere, its gradient is $\gamma / \sqrt{\varepsilon}$ times the incoming one. `train()`
    and `eval()` agree.

    Shapes: `x` and the result `(nodes, (lmax + 1)², channels)`; `affine_weight` `(lmax + 1,
    channels)`, `affine_bias` `(channels,)`. Precision: statistics in float32 or wider, also where
    the square of a float16 overflows; the result has the dtype of `x`.

    Args:
        in_channels, lmax, eps: See `DegreesNorm`.
        affine: Whether to learn $\gamma$ and $\beta$.
        centering: Whether degree 0 loses its mean over the channels.
        std_balance_degrees: Whether every degree has the same weight.
        normalization, device, dtype, backend: See `DegreesNorm`.

    Raises:
        ValueError: `lmax` is negative, `normalization` is unknown or `"norm"` with balanced
            degrees, or `x` is not of the shape above.

    Source: `EquivariantRMSNormArraySphericalHarmonicsV2` (`rms_norm_sh` of EquiformerV2, eSEN and
    UMA) and, with both switches off, its first version, in `models/uma/nn/layer_norm.py` of
    fairchem-core 2.24.0: their checkpoints load unchanged.
    """

    def __init__(
        self,
        in_channels: int,
        lmax: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        centering: bool = True,
        std_balance_degrees: bool = True,
        **options: Unpack[DegreesOptions],
    ) -> None:
        super().__init__(in_channels, lmax, eps, **options)
        if std_balance_degrees and self.normalization == "norm":
            raise ValueError(
                "normalization is 'norm' and std_balance_degrees True, which weighs the components "
                "otherwise; choose std_balance_degrees=False"
            )
        self.point = Point(Over.CHANNELS if centering else None, Over.CHANNELS)
        self.centering = centering
        self.std_balance_degrees = std_balance_degrees
        self._add_weight(lmax + 1, options, affine=affine)
        bias = nn.Parameter(torch.zeros(in_channels, **place(options)))
        self.register_parameter("affine_bias", bias if affine and centering else None)

        self._add_tables(options.get("device"))

    def scale_of_degrees(self, degree: Tensor) -> tuple[Tensor, Tensor]:
        """See `DegreesNorm`."""
        if self.std_balance_degrees:
            divisors = (2 * degree + 1) * (self.lmax + 1)
        else:
            count = self.components if self.normalization == NORMALIZATIONS[0] else 1
            divisors = torch.full_like(degree, count)
        return torch.zeros_like(degree), divisors

    def parameters_in_columns(self) -> Parameters:
        """See `CellsNorm`."""
        if self.affine_weight is None:
            return None, None, None
        weight = self.affine_weight.index_select(0, self._degree).flatten()
        bias = None if self.affine_bias is None else self._of_scalars(self.affine_bias)
        return None, weight, bias
