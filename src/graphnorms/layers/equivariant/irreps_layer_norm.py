"""IrrepsLayerNorm: all copies of a block within a node."""

from __future__ import annotations

from typing import Any, Unpack

from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Over, Parameters, Point
from graphnorms.layers.equivariant.irreps_norm import NORMALIZATIONS, IrrepsNorm
from graphnorms.layers.norm_options import IrrepsOptions


class IrrepsLayerNorm(IrrepsNorm):
    r"""Normalize each block of irreps within a node.

    With $x_u \in \mathbb{R}^{2l+1}$ the copies $u = 1 … U$ of a block at a node, $\alpha = 1$ for
    scalars and 0 for all others,

    $$ o_u = x_u - \alpha \, \tfrac{1}{U} \sum_v x_v, \quad
       s^2 = \tfrac{1}{U (2l+1)} \sum_u \lVert o_u \rVert^2, \quad
       y_u = \gamma_u \frac{o_u}{\sqrt{s^2 + \varepsilon}} + \beta_u. $$

    So scalars (`0e`) get LayerNorm and all others RMSNorm of their block; $\beta$ belongs to
    scalars alone. A block of a single scalar becomes $\beta$. Where a block is 0, the result is
    $\beta$ or 0, and its gradient $\gamma / \sqrt{\varepsilon}$ times the incoming one. `train()`
    and `eval()` agree.

    Shapes: `x` and the result `(nodes, columns)`; `affine_weight` `(copies,)`, `affine_bias`
    `(scalars,)`. Precision: statistics in float32 or wider; the result has the dtype of `x`.

    Args:
        irreps, eps, normalization, layout: See `IrrepsNorm`.
        affine: Whether to learn $\gamma$ and $\beta$.
        device, dtype, backend: See `Norm`.

    Raises:
        ValueError: `irreps` cannot be read, `layout` or `normalization` is unknown, or `x` is not
            `(nodes, columns)`.

    Source: `EquivariantLayerNormV2` and `EquivariantLayerNormFast` in `nets/` of
    atomicarchitects/equiformer at 64cb786, whose parameters load unchanged. Its first version,
    which normalizes lengths, has no second derivative at zero vectors and is left out.
    """

    affine_weight: Any
    affine_bias: Any

    point = Point(Over.CHANNELS, Over.CHANNELS)

    def __init__(
        self,
        irreps: object,
        eps: float = 1e-5,
        affine: bool = True,
        **options: Unpack[IrrepsOptions],
    ) -> None:
        super().__init__(irreps, eps, **options)
        self._add_affine(options, ("affine_weight", "affine_bias"), affine=affine)
        self._add_tables(options.get("device"))

    def reset_parameters(self) -> None:
        """Set γ to 1 and β to 0."""
        super().reset_parameters()
        if self.affine_weight is not None:
            self.affine_weight.data.fill_(1.0)
            self.affine_bias.data.zero_()

    def cells(self) -> Layout:
        """See `IrrepsNorm`: one for each block."""
        places = {block: place for place, block in enumerate(self.irreps)}
        summed = self.normalization == NORMALIZATIONS[1]
        return Layout.of(
            self.irreps.of_blocks(places.__getitem__),
            self.irreps.of_blocks(lambda each: places[each] if each.is_scalar else -1),
            self.irreps.of_blocks(lambda each: each.copies * (1 if summed else each.components)),
        )

    def parameters_in_columns(self) -> Parameters:
        """See `IrrepsNorm`."""
        if self.affine_weight is None:
            return None, None, None
        return None, self._of_copies(self.affine_weight), self._of_scalars(self.affine_bias)
