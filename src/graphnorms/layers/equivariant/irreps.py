"""Where the blocks of equivariant features lie in a row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor

from graphnorms.errors import unknown_name

ORDERS: Final = ("mul_ir", "ir_mul")

_IRREP: Final = re.compile(r"\s*(?:(\d+)\s*x\s*)?(\d+)([eo])\s*")


@dataclass(frozen=True)
class Block:
    """Copies of one irreducible representation.

    Args:
        start: The first column.
        copies: How often it occurs.
        degree: $l$; a copy has $2l + 1$ components.
        parity: `"e"` (even) or `"o"`.
        first_copy: Copies in the blocks before.
        first_scalar: Scalar copies in the blocks before.
    """

    start: int
    copies: int
    degree: int
    parity: str
    first_copy: int
    first_scalar: int

    @property
    def components(self) -> int:
        """Components of a copy."""
        return 2 * self.degree + 1

    @property
    def is_scalar(self) -> bool:
        """Whether rotations and reflections leave it as it is; only then it may be centred."""
        return self.degree == 0 and self.parity == "e"

    @property
    def columns(self) -> slice:
        """The columns of the block."""
        return slice(self.start, self.start + self.copies * self.components)

    @property
    def of_copies(self) -> slice:
        """The place of its copies among all."""
        return slice(self.first_copy, self.first_copy + self.copies)

    @property
    def of_scalars(self) -> slice:
        """The place of its copies among those of scalars; empty for other blocks."""
        return slice(self.first_scalar, self.first_scalar + self.copies * self.is_scalar)


@dataclass(frozen=True)
class Irreps:
    """The blocks of a row, one after the other.

    Args:
        blocks: At least one.
        order: Whether the components of a copy lie together (`"mul_ir"`), or in each block the
            copies of a component (`"ir_mul"`).
    """

    blocks: tuple[Block, ...]
    order: str = ORDERS[0]

    @classmethod
    def of(cls, irreps: object, order: str = ORDERS[0]) -> Self:
        """Read irreps such as `"64x0e + 32x1o + 2e"`, or an object of e3nn that prints so.

        Raises:
            ValueError: The text is not of this form or has no columns, or the order is unknown.
        """
        if order not in ORDERS:
            raise unknown_name("layout", order, ORDERS)
        blocks: list[Block] = []
        start = copies = scalars = 0
        for part in str(irreps).split("+"):
            found = _IRREP.fullmatch(part)
            if found is None:
                raise ValueError(f"irreps has {part!r}, expected blocks such as '64x0e + 32x1o'")
            number, degree, parity = int(found[1] or 1), int(found[2]), found[3]
            block = Block(start, number, degree, parity, copies, scalars)
            start, copies = block.columns.stop, block.of_copies.stop
            scalars = block.of_scalars.stop
            if number:
                blocks.append(block)
        if not blocks:
            raise ValueError(f"irreps {str(irreps)!r} has no columns; name a block, as in '64x0e'")
        return cls(tuple(blocks), order)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)

    def __str__(self) -> str:
        return "+".join(f"{each.copies}x{each.degree}{each.parity}" for each in self)

    @property
    def columns(self) -> int:
        """Columns of a row."""
        return sum(each.copies * each.components for each in self)

    @property
    def copies(self) -> int:
        """Copies of all blocks."""
        return sum(each.copies for each in self)

    @property
    def scalars(self) -> int:
        """Copies of scalars."""
        return sum(each.copies for each in self if each.is_scalar)

    def copy_of_columns(self) -> Tensor:
        """Return the copy that each column belongs to, in the order `"mul_ir"`: `(columns,)`."""
        widths = torch.tensor([each.components for each in self for _ in range(each.copies)])
        return torch.repeat_interleave(torch.arange(self.copies), widths)

    def scalar_columns(self) -> Tensor:
        """Return the columns of the scalars, `(scalars,)`."""
        kept = [each.is_scalar for each in self for _ in range(each.copies * each.components)]
        return torch.tensor(kept).nonzero().flatten()

    def columns_by_copy(self) -> Tensor:
        """Return where each column of the order `"mul_ir"` lies in this order: `(columns,)`."""
        parts = []
        for each in self:
            columns = torch.arange(each.columns.start, each.columns.stop)
            if self.order != ORDERS[0]:
                columns = columns.view(each.components, each.copies).T.flatten()
            parts.append(columns)
        return torch.cat(parts)
