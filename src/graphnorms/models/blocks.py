"""Rows of segments laid out in blocks of one length, as attention takes them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphnorms.segments import Segments


@dataclass(frozen=True, slots=True)
class Blocks:
    """Where each row of a batch of segments lies in a tensor `(number, length, channels)`.

    Each segment has a block of the length of the longest. Where that would take more places than
    one block of all rows takes pairs, as with one giant among many small ones, all rows lie in
    one block. Segments of one length are a view.

    Args:
        number, length: Of the blocks.
        place: Of each row in the blocks one after the other, `(rows,)`; `None` where the rows
            fill the blocks in their order.
        segment: Of each place, `(number, length)`, the number of segments where there is no row;
            `None` where each block is one segment and full.
    """

    number: int
    length: int
    place: Tensor | None
    segment: Tensor | None

    @classmethod
    def of(cls, segments: Segments) -> Blocks:
        """Lay out segments; reads the longest from the device where the host does not know it.

        Raises:
            ValueError: Rows are masked.
        """
        if segments.masked:
            raise ValueError("segments has masked rows, which attention does not take; drop them")
        number, rows = segments.num_segments, segments.num_rows
        longest = segments.longest
        if longest is None:
            longest = int(segments.counts.max()) if number else 0
        if number * longest == rows and segments.order is None:
            return cls(number, longest, None, None)
        index = segments.index
        if segments.order is None:
            position = torch.arange(rows, device=index.device)
        else:
            position = torch.argsort(segments.order)
        if number * longest**2 > rows**2:
            number, length, place = 1, rows, position
        else:
            length, place = longest, index * longest + position - segments.ptr[index]
        segment = index.new_full((number * length,), segments.num_segments)
        segment = segment.index_copy(0, place, index).view(number, length)
        return cls(number, length, place, segment)

    def pad(self, x: Tensor) -> Tensor:
        """Lay out rows, `(rows, channels)`, in blocks, 0 where there are none."""
        if self.place is not None:
            room = x.new_zeros((self.number * self.length, x.shape[1]))
            x = room.index_copy(0, self.place, x)
        return x.view(self.number, self.length, x.shape[1])

    def rows(self, padded: Tensor) -> Tensor:
        """Read the rows back, `(rows, channels)`."""
        x = padded.flatten(0, 1)
        return x if self.place is None else x.index_select(0, self.place)

    def mask(self, *, causal: bool) -> Tensor | None:
        """Say which row of a block sees which, bool, `(number, 1, length, length)`.

        Rows see those of their segment, and with `causal` only those before them and themselves.
        Places without a row see each other, so that none sees nothing. `None` where all of a
        block, or all before in it, is what is to be seen.
        """
        if self.segment is None:
            return None
        seen = self.segment.unsqueeze(2) == self.segment.unsqueeze(1)
        return (seen.tril() if causal else seen).unsqueeze(1)
