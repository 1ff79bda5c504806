"""A layout: which columns of a row share a statistic, and how much each one weighs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Layout(NamedTuple):
    r"""Cells of columns that need neither be equally wide nor weigh the same.

    It takes the place of `groups`, for features of several kinds in one row, such as degrees of
    spherical harmonics. $s^2$ of a cell is the mean over its rows of $\sum_c o_c^2 / d_c$, the sum
    over its columns: their mean where $d_c$ is their number. Whole numbers, unlike weights, survive
    a conversion of the layer to another dtype.

    The cells of a statistic within rows (`Over.CHANNELS`) are numbered in ascending order, so that
    each is a range of columns. For one over nodes as well (`Over.BOTH`) their columns may lie
    apart; with a centre over nodes alone (`Over.NODES`) every column is a cell of its own, and only
    the sign in `center_cells` matters.

    Args:
        table: `(3, columns)` int64: the cell of the centre, -1 for a column that is not centred;
            the cell of the scale; and $d$, at least 1.
        centers, scales: Number of cells of the centre and of the scale, which graphs need as
            constants.
    """

    table: Tensor
    centers: int
    scales: int

    @classmethod
    def of(
        cls,
        scale_cells: Tensor | Sequence[int],
        center_cells: Tensor | Sequence[int] | None = None,
        divisors: Tensor | Sequence[int] | None = None,
    ) -> Self:
        """Make a layout from a number for each column.

        Args:
            scale_cells: The cell of the scale.
            center_cells: The cell of the centre, -1 for none; `None` for one cell of all columns.
            divisors: d; `None` for the number of columns of the cell.

        Raises:
            ValueError: The numbers are not int64 of one length, or out of their range.
        """
        scale = _as_tensor(scale_cells)
        center = torch.zeros_like(scale) if center_cells is None else _as_tensor(center_cells)
        if divisors is None:
            sizes = torch.bincount(scale) if scale.numel() and int(scale.min()) >= 0 else scale
            divisors = sizes[scale]
        parts = (center, scale, _as_tensor(divisors))
        if any(part.shape != (scale.numel(),) or part.dtype != torch.int64 for part in parts):
            shapes = ", ".join(f"{tuple(part.shape)} of {part.dtype}" for part in parts)
            raise ValueError(
                f"center_cells, scale_cells and divisors are {shapes}, expected an int64 for each "
                "column"
            )
        table = torch.stack(parts)
        least = torch.tensor([[-1], [0], [1]], device=table.device)
        if not table.numel() or bool((table < least).any()):
            raise ValueError(
                "a layout has no column, or a number below -1 in center_cells, 0 in scale_cells or "
                "1 in divisors"
            )
        return cls(table, max(int(center.max()) + 1, 1), int(scale.max()) + 1)

    @property
    def center_cells(self) -> Tensor:
        """The cell of the centre of each column, -1 for none."""
        return self.table[0]

    @property
    def scale_cells(self) -> Tensor:
        """The cell of the scale of each column."""
        return self.table[1]

    @property
    def divisors(self) -> Tensor:
        """d of each column."""
        return self.table[2]


def _as_tensor(numbers: Tensor | Sequence[int]) -> Tensor:
    # torch.as_tensor would move a tensor to the default device, e.g. to "meta".
    return numbers if isinstance(numbers, Tensor) else torch.tensor(numbers)
