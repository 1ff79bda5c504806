"""The base of norms of irreps: one call of the equation, with cells of columns by block."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final, Unpack

import torch
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.kernels.layout import Layout
from graphnorms.kernels.primitive import Statistics
from graphnorms.layers.base import Given, Norm
from graphnorms.layers.equivariant.irreps import ORDERS, Irreps
from graphnorms.layers.norm_options import IrrepsOptions, place
from graphnorms.segments import Segments, as_segments

NORMALIZATIONS: Final = ("component", "norm")


class IrrepsNorm(Norm):
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

    _cells: Tensor
    _copy: Tensor
    _scalar: Tensor

    def __init__(self, irreps: object, eps: float, **options: Unpack[IrrepsOptions]) -> None:
        rest: dict[str, Any] = dict(options)
        self.irreps = Irreps.of(irreps, rest.pop("layout", ORDERS[0]))
        normalization = rest.pop("normalization", NORMALIZATIONS[0])
        check_normalization(normalization)
        super().__init__(self.irreps.columns, eps=eps, **rest)
        self.normalization = normalization
        self._add_index("_copy", self.irreps.copy_of_columns(), options)
        self._add_index("_scalar", self.irreps.scalar_of_columns(), options)

    def _add_index(self, name: str, index: Tensor, options: IrrepsOptions) -> None:
        """Keep an index beside the parameters, but not in checkpoints."""
        self.register_buffer(name, index.to(options.get("device")), persistent=False)

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

    def _add_layout(self, layout: Layout, options: IrrepsOptions) -> None:
        """Keep the cells of the columns."""
        self._add_index("_cells", layout.table, options)
        self._numbers_of_cells = layout[1:]

    @abstractmethod
    def parameters_in_columns(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return α, γ and β of each column; None for 1, 1 and 0."""

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

    def _by_cells(
        self, x: Tensor, segments: Segments, residual: Tensor | None, *, statistics: bool = False
    ) -> tuple[Tensor, Statistics | None]:
        """Run the equation, and return its statistics if requested."""
        assert self.point is not None
        equation = (self.point, *self.parameters_in_columns(), self.eps)
        layout = Layout(self._cells, *self._numbers_of_cells)
        return self._normalize(
            x, segments, equation, residual, statistics=statistics, layout=layout
        )

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
