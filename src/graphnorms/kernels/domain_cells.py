"""The cells of a statistic: means over them in plain torch, and back to the entries."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphnorms.kernels.point import Call, Over
from graphnorms.segments import Segments


class Cells(NamedTuple):
    """The cells of a domain; methods take rows and cells as matrices.

    Args:
        segments: The segments of the rows.
        over: The domain.
        number: Cells of columns; equal groups unless `of_columns` is given.
        of_columns: The cell of each column, -1 for none.
        divisors: What the entries of each column are divided by in the sum over columns; `None`
            for the number of columns of the cell.
    """

    segments: Segments
    over: Over
    number: int = 1
    of_columns: Tensor | None = None
    divisors: Tensor | None = None

    def first(self, x: Tensor) -> Tensor:
        """Return an entry of every cell: its first row and first column."""
        return self.first_columns(x if self.over is Over.CHANNELS else self._first_rows(x))

    def first_columns(self, x: Tensor) -> Tensor:
        """Return the first column of every cell, `(rows, cells)`."""
        if self.over is Over.NODES:
            return x
        if self.of_columns is None:
            return grouped(x, self.number)[:, :, 0]
        columns = torch.arange(x.shape[1], device=x.device)
        last = columns[-1:].expand(self.number + 1)
        first = last.scatter_reduce(0, self._filed(self.of_columns), columns, "amin")
        return x.index_select(1, first[:-1])

    def mean(self, x: Tensor) -> Tensor:
        """Compute the mean over the entries of every cell; 0 for a cell without entries."""
        x = self.over_columns(x)
        if self.over is Over.CHANNELS:
            return x
        return sum_of_segments(x, self.segments) / self.segments.counts.clamp(min=1).unsqueeze(1)

    def spread(self, statistic: Tensor, channels: int) -> Tensor:
        """Give every entry the statistic of its cell, or 0 outside of cells.

        Shapes: the result is `(rows, channels)`, or broadcastable to it.
        """
        if self.over is not Over.CHANNELS and not is_whole(self.segments):
            if self.segments.masked:
                statistic = torch.nn.functional.pad(statistic, (0, 0, 0, 1))
            statistic = statistic.index_select(0, self.segments.index)
        return self.widen(statistic, channels)

    def over_columns(self, x: Tensor) -> Tensor:
        """Compute the mean over the columns of every cell, `(rows, cells)`."""
        if self.over is Over.NODES:
            return x
        if self.of_columns is None:
            return grouped(x, self.number).mean(2)
        places, divisors = self._filed(self.of_columns), self.divisors
        if divisors is None:
            sizes = torch.zeros(self.number + 1, dtype=torch.int64, device=x.device)
            divisors = sizes.index_add(0, places, torch.ones_like(places))[places]
        sums = x.new_zeros((x.shape[0], self.number + 1))
        return sums.index_add(1, places, x / divisors.to(x.dtype))[:, :-1]

    def widen(self, statistic: Tensor, channels: int) -> Tensor:
        """Give every column the statistic of its cell, or 0."""
        if self.of_columns is None:
            each = statistic.shape[1]
            if self.over is Over.NODES or each == channels:
                return statistic
            return statistic.repeat_interleave(channels // each, dim=1)
        if self.over is not Over.NODES:
            statistic = statistic.index_select(1, self.of_columns.clamp(min=0))
        return torch.where(self.of_columns >= 0, statistic, 0)

    def _first_rows(self, x: Tensor) -> Tensor:
        if not x.shape[0]:
            return x.new_zeros((self.segments.num_segments, x.shape[1]))
        # An empty segment at the end begins past the last row; no row uses its pivot.
        position = self.segments.ptr[:-1].clamp(max=x.shape[0] - 1)
        rows = position if self.segments.order is None else self.segments.order[position]
        first = x.index_select(0, rows)  # (segments, channels)
        return first.masked_fill((self.segments.counts == 0).unsqueeze(1), 0)

    def _filed(self, of_columns: Tensor) -> Tensor:
        """Number the columns outside of cells as a last cell."""
        return torch.where(of_columns < 0, self.number, of_columns)


def cells_of_center(call: Call) -> Cells | None:
    """Return the cells of the centre; `None` without one."""
    (center, _, _, groups, _), layout = call.point, call.layout
    if center is None:
        return None
    if layout is None:
        return Cells(call.segments, center, groups)
    return Cells(call.segments, center, layout.centers, layout.center_cells)


def cells_of_scale(call: Call) -> Cells | None:
    """Return the cells of the scale; `None` without one."""
    (_, scale, _, groups, _), layout = call.point, call.layout
    if scale is None:
        return None
    if layout is None:
        return Cells(call.segments, scale, groups)
    return Cells(call.segments, scale, layout.scales, layout.scale_cells, layout.divisors)


class Weights(NamedTuple):
    """What derivatives need beside the cells of a scale.

    Args:
        summed: The cells with the sum over columns, where the scale of a layout weighs them.
        divisors: By what such a sum divides the squares of a column; `None` for 1.
    """

    summed: Cells
    divisors: Tensor | None

    def weighed(self, a: Tensor) -> Tensor:
        """Return entries times the weights of their squares."""
        return a if self.divisors is None else a / self.divisors.to(a.dtype)


def weights_of(scale: Cells) -> Weights:
    """Take the weights of squares off a scale, which without a layout is a mean."""
    if scale.divisors is None:
        return Weights(scale, None)
    return Weights(scale._replace(divisors=torch.ones_like(scale.divisors)), scale.divisors)


def grouped(x: Tensor, groups: int) -> Tensor:
    """View rows as `(rows, groups, channels per group)`."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups)


def sum_of_segments(x: Tensor, segments: Segments) -> Tensor:
    """Sum the rows of every segment."""
    if is_whole(segments):
        return x.sum(0, keepdim=True)  # pairwise summation, unlike index_add
    # Masked rows form an extra segment at the end.
    zeros = x.new_zeros((segments.num_segments + segments.masked, x.shape[1]))
    return zeros.index_add(0, segments.index, x)[: segments.num_segments]


def of_rows(parameter: Tensor, segments: Segments) -> Tensor:
    """Return a parameter per channel unchanged; expand one per segment to the rows."""
    if parameter.dim() == 1:
        return parameter
    return Cells(segments, Over.NODES).spread(parameter, parameter.shape[1])


def is_whole(segments: Segments) -> bool:
    """Whether all rows form one segment."""
    return segments.num_segments == 1 and not segments.masked
