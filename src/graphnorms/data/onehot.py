"""One-hot features, stored as the columns of their ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_DTYPES = {torch.uint8: 1 << 8, torch.int16: 1 << 15, torch.int32: 1 << 31}
_CHUNK = 1 << 22  # entries per chunk of the dense matrix


@dataclass(frozen=True, eq=False)
class OneHot:
    """Features that are 1 in one column of each block, and 0 elsewhere.

    A node takes one integer of 1, 2 or 4 bytes per block, instead of 4 bytes per feature.

    Shapes: `columns` `(nodes, blocks)`, uint8, int16 or int32; dense `(nodes, width)` float32.

    Args:
        columns: Row i lists the columns in which the features of node i are 1.
        width: Number of columns of the dense features.
    """

    columns: Tensor
    width: int

    @classmethod
    def from_blocks(cls, blocks: Sequence[tuple[Tensor, int]]) -> OneHot:
        """Concatenate blocks.

        Args:
            blocks: The column of each node within the block, `(nodes,)`, and the width of the
                block.
        """
        width = sum(width for _, width in blocks)
        dtype = _narrowest(width)
        columns, first = [], 0
        for column, block_width in blocks:
            columns.append((column + first).to(dtype))
            first += block_width
        return cls(torch.stack(columns, 1), width)

    @classmethod
    def from_columns(cls, columns: Tensor, width: int) -> OneHot:
        """Make from columns `(nodes, blocks)`, converted to the narrowest integer type."""
        return cls(columns.to(_narrowest(width)), width)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the dense features."""
        return self.columns.shape[0], self.width

    @property
    def device(self) -> torch.device:
        """The device of the columns."""
        return self.columns.device

    def dense(self) -> Tensor:
        """Compute the dense matrix."""
        rows, width = self.shape
        begin = torch.arange(0, rows * width, max(width, 1), device=self.device)[:rows, None]
        x = torch.zeros(rows * width, device=self.device)
        return x.index_fill_(0, (self.columns + begin).view(-1), 1.0).view(rows, width)

    def chunks(self) -> Iterator[Tensor]:
        """Iterate over the dense features in chunks of bounded memory."""
        for columns in self.columns.split(max(1, _CHUNK // max(1, self.width))):
            yield OneHot(columns, self.width).dense()

    def index_select(self, dim: int, rows: Tensor) -> OneHot:
        """Return the features of some nodes; `dim` must be 0."""
        return OneHot(self.columns.index_select(dim, rows), self.width)

    def contiguous(self) -> OneHot:
        """Return the features with contiguous columns."""
        columns = self.columns.contiguous()
        return self if columns is self.columns else OneHot(columns, self.width)

    def to(self, device: torch.device | str) -> OneHot:
        """Return the features on `device`; themselves if already there."""
        columns = self.columns.to(device)
        return self if columns is self.columns else OneHot(columns, self.width)

    def validate(self, *, contents: bool = True) -> None:
        """Check dtype, dimensions and, unless it is left out, the contents.

        Raises:
            ValueError: One of them is wrong; the message says which.
        """
        columns = self.columns
        if columns.dim() != 2 or columns.dtype not in _DTYPES:
            raise ValueError(
                f"columns is {columns.dtype} of shape {tuple(columns.shape)}, expected "
                "(nodes, blocks) of torch.uint8, torch.int16 or torch.int32"
            )
        if not columns.numel() or not contents:
            return
        # Python ints: comparing in uint8 would wrap the width.
        low, high = int(columns.min()), int(columns.max())
        if low < 0 or high >= self.width:
            raise ValueError(
                f"columns holds {low if low < 0 else high}, expected columns in "
                f"0 … {self.width - 1}"
            )


def _narrowest(width: int) -> torch.dtype:
    return next(dtype for dtype, columns in _DTYPES.items() if width <= columns)
