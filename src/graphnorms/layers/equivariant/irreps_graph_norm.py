"""IrrepsGraphNorm: each copy of an irrep over the nodes of a graph."""

from __future__ import annotations

from typing import Any, Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.point import Over, Point
from graphnorms.layers.equivariant.irreps_norm import IrrepsNorm, copies_over_rows
from graphnorms.layers.norm_options import IrrepsOptions, place

_SHIFTS: Final = ("scalars", "all", "fixed")


class IrrepsGraphNorm(IrrepsNorm):
    r"""Normalize each copy of an irreducible representation over the nodes of a graph.

    With $x_i \in \mathbb{R}^{2l+1}$ a copy at node $i$ of a graph with node set $V$,

    $$ \mu = \tfrac{1}{|V|} \sum_i x_i, \quad o_i = x_i - \alpha \mu, \quad
       s^2 = \tfrac{1}{|V|} \sum_i \tfrac{1}{2l+1} \lVert o_i \rVert^2, \quad
       y_i = \gamma \frac{o_i}{\sqrt{s^2 + \varepsilon}} + \beta. $$

    | `shift` | $\alpha$ | class of Equiformer |
    |---|---|---|
    | `"scalars"` | learned for scalars, starts at 1; else 0 | `EquivariantGraphNorm` |
    | `"all"` | learned for every copy, starts at 1 for scalars and at 0 else | `…GraphNormV2` |
    | `"fixed"` | 1 for scalars, else 0 | `EquivariantInstanceNorm` |

    $\beta$ belongs to scalars (`0e`) alone. A graph of one node turns scalars into $\beta$ (at
    $\alpha = 1$), and every other copy into its direction. Where a copy is 0 at all nodes, the
    result is 0 and its gradient is $\gamma / \sqrt{\varepsilon}$ times the incoming one.
    `train()` and `eval()` agree.

    Shapes: `x` and the result `(nodes, columns)`; `affine_weight` `(copies,)`, `affine_bias`
    `(scalars,)`, `mean_shift` `(scalars,)`; for `shift="all"` `(1, copies)`, `(1, scalars)` and
    `(1, copies, 1)`. Precision: statistics in float32 or wider, centred before squaring; the result
    has the dtype of `x`.

    Args:
        irreps, eps, normalization, layout: See `IrrepsNorm`.
        affine: Whether to learn $\gamma$ and $\beta$.
        shift: See the table.
        device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `irreps` cannot be read, `shift`, `layout` or `normalization` is unknown, `x` is
            not `(nodes, columns)`, or `batch` does not assign exactly the rows of `x`.

    Source: `nets/graph_norm.py` and `nets/instance_norm.py` of atomicarchitects/equiformer at
    64cb786, whose parameters load unchanged. With PyG 2.8 the pooling of the first and the third
    class there fails, and the first one reads the shift of its first block of scalars for all.
    """

    affine_weight: Any
    affine_bias: Any
    mean_shift: Any

    point = Point(Over.NODES, Over.BOTH, "graph")

    def __init__(
        self,
        irreps: object,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        shift: str = _SHIFTS[0],
        **options: Unpack[IrrepsOptions],
    ) -> None:
        if shift not in _SHIFTS:
            raise unknown_name("shift", shift, _SHIFTS)
        super().__init__(irreps, eps, **options)
        self.shift = shift
        self._add_tables(options.get("device"))
        self._add_affine(options, ("affine_weight", "affine_bias"), affine=affine)
        if shift == "all":
            for name in ("affine_weight", "affine_bias"):
                if (flat := getattr(self, name)) is not None:
                    self.register_parameter(name, nn.Parameter(flat.detach().unsqueeze(0)))
        shape = {"scalars": (self.irreps.scalars,), "all": (1, self.irreps.copies, 1)}.get(shift)
        start = None if shape is None else nn.Parameter(torch.empty(shape, **place(options)))
        self.register_parameter("mean_shift", start)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set γ to 1, β to 0, and α to 1 for scalars and 0 for other copies."""
        super().reset_parameters()
        for name, value in (("affine_weight", 1.0), ("affine_bias", 0.0)):
            if (parameter := getattr(self, name)) is not None:
                nn.init.constant_(parameter, value)
        if self.mean_shift is None:
            return
        nn.init.ones_(self.mean_shift)
        if self.shift == "all":
            with torch.no_grad():
                for block in self.irreps:
                    self.mean_shift[:, block.of_copies] = float(block.is_scalar)

    def cells(self) -> Layout:
        """See `IrrepsNorm`."""
        return copies_over_rows(self.irreps, self.normalization, all_centred=self.shift == "all")

    def parameters_in_columns(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """See `IrrepsNorm`."""
        alpha = weight = bias = None
        if self.mean_shift is not None:
            spread = self._of_copies if self.shift == "all" else self._of_scalars
            alpha = spread(self.mean_shift)
        if self.affine_weight is not None:
            weight, bias = self._of_copies(self.affine_weight), self._of_scalars(self.affine_bias)
        return alpha, weight, bias
