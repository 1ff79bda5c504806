"""The base of norms of irreps: one call of the equation, with cells of columns by block."""

from __future__ import annotations

from typing import Any, Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.layout import Layout
from graphnorms.layers.base import Given
from graphnorms.layers.equivariant.cells_norm import CellsNorm
from graphnorms.layers.equivariant.irreps import ORDERS, Irreps
from graphnorms.layers.norm_options import IrrepsOptions, place
from graphnorms.segments import as_segments

NORMALIZATIONS: Final = ("component", "norm")


class IrrepsNorm(CellsNorm):
    r"""A norm of features that rotate.

    A row consists of blocks of copies of irreducible representations, as in e3nn. Only scalars
    (`0e`) are centred and have a $\beta$, and the components of a copy share their scale: so the
    norm of rotated or reflected features is the rotated or reflected norm. An activation or a
    dropout of single entries would break that and is not an argument.

    Args:
        irreps: The blocks, as text (`"64x0e + 32x1o"`) or as an object of e3nn.
        eps: $\varepsilon$, in the squared unit of `x`.
        normalization: Whether the squares of the components of a copy are averaged (`"component"`)
            or summed (`"norm"`).
        layout: `"mul_ir"`: the components of a copy lie together, as in e3nn; or `"ir_mul"`.
        device, dtype, backend, process_group: See `Norm`.
    """

    _copy: Tensor
    _scalar: Tensor

    def __init__(self, irreps: object, eps: float, **options: Unpack[IrrepsOptions]) -> None:
        rest: dict[str, Any] = dict(options)
        self.irreps = Irreps.of(irreps, rest.pop("layout", ORDERS[0]))
        normalization = rest.pop("normalization", NORMALIZATIONS[0])
        check_normalization(normalization)
        super().__init__(self.irreps.columns, eps=eps, **rest)
        self.normalization = normalization

    def _add_affine(
        self, options: IrrepsOptions, names: tuple[str, str], *, affine: bool, bias: bool = True
    ) -> None:
        """Register a weight for each copy and a bias for each scalar."""
        sizes = self.irreps.copies, self.irreps.scalars
        for name, size, value, wanted in zip(
            names, sizes, (1.0, 0.0), (affine, affine and bias), strict=True
        ):
            made = nn.Parameter(torch.full((size,), value, **place(options))) if wanted else None
            self.register_parameter(name, made)

    def _tables(self) -> dict[str, Tensor]:
        return {
            **super()._tables(),
            "_copy": self.irreps.copy_of_columns(),
            "_scalar": self.irreps.scalar_of_columns(),
        }

    def _of_copies(self, numbers: Tensor) -> Tensor:
        """Give each column the number of its copy."""
        return numbers.flatten().index_select(0, self._copy)

    def _of_scalars(self, numbers: Tensor) -> Tensor:
        """Give each column that is a scalar its number, and 0 to the others."""
        return nn.functional.pad(numbers.flatten(), (0, 1)).index_select(0, self._scalar)

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        if self.per_graph:
            segments = self._graphs(x, given)
        else:
            segments = as_segments(None, rows_of=x, mask=given[2])
        return self._by_cells(x, segments, residual)[0]

    def _own_repr(self) -> str:
        return f"{self.irreps}, eps={self.eps}"


def check_normalization(normalization: str) -> None:
    """Refuse a normalization that is not among the two."""
    if normalization not in NORMALIZATIONS:
        raise unknown_name("normalization", normalization, NORMALIZATIONS)


def copies_over_rows(irreps: Irreps, normalization: str, *, all_centred: bool = False) -> Layout:
    """Make the layout of statistics over rows, with a cell of the scale for each copy.

    Args:
        irreps, normalization: See `IrrepsNorm`.
        all_centred: Whether every column is centred, and not scalars alone.
    """

    summed = normalization == NORMALIZATIONS[1]
    return Layout.of(
        irreps.copy_of_columns(),
        irreps.of_blocks(lambda each: 0 if all_centred or each.is_scalar else -1),
        irreps.of_blocks(lambda each: 1 if summed else each.components),
    )
