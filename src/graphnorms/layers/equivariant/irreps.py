"""Where the blocks of equivariant features lie in a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
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

    def of_columns(self, numbers: Callable[[Block], Iterable[int]]) -> Tensor:
        """Return the number of its copy for each column, `(columns,)`.

        Args:
            numbers: Returns the numbers of the copies of a block.
        """
        columns: list[int] = []
        for each in self:
            if self.order == ORDERS[0]:
                columns += (number for number in numbers(each) for _ in range(each.components))
            else:
                columns += list(numbers(each)) * each.components
        return torch.tensor(columns, device="cpu")

    def of_blocks(self, number: Callable[[Block], int]) -> Tensor:
        """Return the number of its block for each column, `(columns,)`."""
        return self.of_columns(lambda each: [number(each)] * each.copies)

    def copy_of_columns(self) -> Tensor:
        """Return the copy that each column belongs to, `(columns,)`."""
        return self.of_columns(lambda each: range(self.copies)[each.of_copies])

    def scalar_of_columns(self) -> Tensor:
        """Return the scalar that each column is, or else their number, `(columns,)`."""
        places, others = range(self.scalars), [self.scalars]
        return self.of_columns(
            lambda each: places[each.of_scalars] if each.is_scalar else others * each.copies
        )
