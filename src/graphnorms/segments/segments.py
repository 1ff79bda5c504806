"""A partition of rows into segments."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from graphnorms.segments.checks import (
    check_ids,
    check_integer_vector,
    check_mask,
    check_offsets,
    check_size,
)
from graphnorms.segments.memory import Seen, memory
from graphnorms.segments.order import must_be_simple, offsets_and_order, offsets_of
from graphnorms.tracing import is_batched, is_traced, may_keep


class Segments:
    r"""A partition of rows into segments, one per graph.

    Position $i$ of segment $s$ is $\mathrm{ptr}_s \le i < \mathrm{ptr}_{s+1}$; the row at a
    position is `order[i]`, or `i` itself where `order` is `None`. Segments may be empty.

    Make one with `from_ptr`, `from_counts`, `from_batch` or `single`, once per minibatch, and
    give it to every layer in place of `batch`: nothing is then derived or checked again.

    Attributes:
        ptr: Offsets, int64, `(segments + 1,)`.
        order: The rows in the order of their segments, int64, `(rows,)`, or `None`. Masked rows
            come last.
        masked: Whether there may be rows that belong to no segment; see `with_mask`.
        num_segments, num_rows: The sizes, known on the host.
        longest: Rows of the longest segment where the host knows it, else `None`.
    """

    __slots__ = ("__weakref__", "_counts", "_index", "_last_mask", "longest", "masked", "num_rows",
                 "num_segments", "order", "ptr")  # fmt: skip

    def __init__(
        self,
        ptr: Tensor,
        order: Tensor | None,
        num_rows: int,
        *,
        longest: int | None = None,
        index: Tensor | None = None,
        masked: bool = False,
    ) -> None:
        self.ptr = ptr
        self.order = order
        self.num_rows = num_rows
        self.num_segments = ptr.shape[0] - 1
        self.longest = longest
        self.masked = masked
        self._index = index
        self._counts: Tensor | None = None
        self._last_mask: tuple[Seen, Segments] | None = None

    @classmethod
    def from_ptr(
        cls,
        ptr: Tensor,
        *,
        num_rows: int | None = None,
        longest: int | None = None,
        validate: bool | None = None,
    ) -> Segments:
        """Build from offsets: segment `s` is the rows `ptr[s]` to `ptr[s + 1]`.

        Args:
            ptr: Offsets, integer, `(segments + 1,)`, ascending from 0.
            num_rows: Where `ptr` must end. Read from `ptr` if not given.
            longest: Rows of the longest segment, if known.
            validate: Check the values; `None` does so on the CPU only, because on a GPU it reads
                the device.

        Raises:
            ValueError: `ptr` is not a vector of integers, does not begin at 0, does not ascend,
                or does not end at `num_rows`.
        """
        check_integer_vector("ptr", ptr)
        if ptr.shape[0] == 0:
            raise ValueError("ptr is empty, expected segments + 1 offsets beginning with 0")
        ptr = ptr.to(torch.int64, copy=True)  # what is written to it later does not change it here
        if validate or (validate is None and ptr.is_cpu and not is_traced()):
            check_offsets(ptr, num_rows)
        rows: Any = ptr[-1].item() if num_rows is None else num_rows
        return cls(ptr, None, rows, longest=longest)

    @classmethod
    def from_counts(cls, counts: Tensor) -> Segments:
        """Build from the number of rows of each segment, as DGL's `batch_num_nodes()` gives it.

        Raises:
            ValueError: `counts` is not a vector of integers, or one is negative.
        """
        check_integer_vector("counts", counts)
        counts = counts.to(torch.int64)
        if counts.shape[0] and not is_traced() and int(counts.min()) < 0:
            raise ValueError(f"counts has {int(counts.min())}, expected no negative number")
        return cls.from_ptr(offsets_of(counts), validate=False)

    @classmethod
    def from_batch(
        cls,
        batch: Tensor,
        num_segments: int | None = None,
        *,
        sorted: bool | None = None,
        validate: bool = False,
        names: tuple[str, str] = ("batch", "batch_size"),
    ) -> Segments:
        """Build from the segment of every row, in any order and with any gaps.

        On the CPU the ids are checked, and rows that are already sorted stay where they are. On
        other devices nothing is read back: rows are taken as unsorted unless `sorted=True`, and
        ids outside the range fail an assertion on the device.

        Args:
            batch: Segment of each row, integer, `(rows,)`.
            num_segments: How many segments there are, empty ones at the end included. Read
                from the largest id if not given, which reads the device once; in a traced graph
                it then is a number known at run time.
            sorted: That the ids ascend; `None` finds out on the CPU.
            validate: On a GPU, read the device to name a value outside the range.
            names: What errors call the vector and the number of segments.

        Raises:
            ValueError: `batch` is not a vector of integers, or an id is negative or not below
                `num_segments`.
        """
        check_integer_vector(names[0], batch)
        num_segments = check_size(names[1], num_segments)
        if is_traced() or is_batched(batch):
            return _from_batch_without_reading(cls, batch, num_segments, bool(sorted), names)
        index = batch.to(torch.int64)
        if num_segments is None:
            num_segments = int(index.max()) + 1 if index.shape[0] else 0
        if batch.is_cpu or validate:
            check_ids(index, num_segments, names)
        if not batch.is_cpu:
            return _from_batch_without_reading(cls, index, num_segments, bool(sorted), names)
        if sorted is None:
            sorted = bool((index[1:] >= index[:-1]).all())
        order = None if sorted else torch.argsort(index, stable=True)
        counts = torch.bincount(index, minlength=num_segments)
        if index is batch:
            index = batch.clone()  # what is written to the vector later does not change it here
        segments = cls(offsets_of(counts), order, batch.shape[0], index=index)
        segments._counts = counts
        return segments

    @classmethod
    def single(cls, num_rows: int, device: torch.device | None = None) -> Segments:
        """Build the partition in which all rows are one graph."""
        return (_kept_single if may_keep(device) else _single)(num_rows, device)

    def with_mask(self, mask: Tensor) -> Segments:
        """Leave out rows, as padded nodes: they neither count nor change.

        Nothing is read back from a device. The result for the last mask is kept.

        Args:
            mask: Which rows stay, bool, `(rows,)`.

        Raises:
            ValueError: `mask` is not a vector of bool, or not one per row, or elsewhere.
        """
        check_mask(mask, self.num_rows, self.ptr.device)
        keeps = may_keep(mask) and not mask.is_inference()
        if keeps and self._last_mask is not None:
            seen, kept = self._last_mask
            if seen.is_still(mask):
                return kept
        index = self.index.masked_fill(~mask, self.num_segments)
        ptr, order = offsets_and_order(index, self.num_segments)
        segments = Segments(ptr, order, self.num_rows, index=index, masked=True)
        if keeps:
            self._last_mask = (Seen(mask), segments)
        return segments

    @property
    def counts(self) -> Tensor:
        """Rows of each segment, int64, `(segments,)`."""
        if self._counts is not None:
            return self._counts
        counts = self.ptr.diff()
        if may_keep(counts):
            self._counts = counts
        return counts

    @property
    def index(self) -> Tensor:
        """Segment of each row, in the order of the rows, int64, `(rows,)`.

        Masked rows have the number behind that of the last segment.
        """
        if self._index is not None:
            return self._index
        if self.num_segments == 1 and not self.masked:
            return torch.zeros(self.num_rows, dtype=torch.int64, device=self.ptr.device)
        counts = self.counts
        if self.masked:
            counts = torch.cat((counts, self.num_rows - self.ptr[-1:]))
        ids = torch.arange(counts.shape[0], device=self.ptr.device)
        index = torch.repeat_interleave(ids, counts, output_size=self.num_rows)
        if self.order is not None:
            index = torch.empty_like(index).index_copy(0, self.order, index)
        if may_keep(index):
            self._index = index
        return index

    def as_batch(self) -> Tensor:
        """Return `index` for code that hands a batch vector on, as PyG's models do.

        Layers that are given this vector find these Segments again, and derive nothing.
        """
        # A copy, which a model may write to, and which is not held here: else its entry in the
        # memory would never go.
        batch = self.index.clone()
        if may_keep(batch) and not batch.is_inference() and not self.masked:
            for num_segments in (None, self.num_segments):
                memory.keep(batch, num_segments, self)
        return batch

    @property
    def device(self) -> torch.device:
        """Where the offsets lie."""
        return self.ptr.device

    def to(self, device: torch.device | str) -> Segments:
        """Copy to a device; `self` where it is there already.

        What comes from the CPU takes `longest` along, which saves launches on a GPU.
        """
        if self.ptr.device == torch.device(device):
            return self
        longest = self.longest
        if longest is None and self.ptr.is_cpu and self.num_segments:
            longest = int(self.counts.max())
        return Segments(
            self.ptr.to(device),
            None if self.order is None else self.order.to(device),
            self.num_rows,
            longest=longest,
            masked=self.masked,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (
            self.ptr, self.order, self.num_rows, self.longest, self._index, self.masked
        )  # fmt: skip

    def __len__(self) -> int:
        return self.num_segments

    def __repr__(self) -> str:
        order = ", masked" if self.masked else "" if self.order is None else ", unsorted"
        return f"Segments({self.num_segments} segments, {self.num_rows} rows{order})"


def _rebuild(
    ptr: Tensor, order: Tensor | None, num_rows: int, longest: int | None, index: Tensor | None,
    masked: bool,
) -> Segments:  # fmt: skip
    return Segments(ptr, order, num_rows, longest=longest, index=index, masked=masked)


def _single(num_rows: int, device: torch.device | None) -> Segments:
    # torch.tensor would wait for a GPU, to copy the numbers there.
    ptr = torch.arange(2, device=device) * num_rows
    return Segments(ptr, None, num_rows, longest=num_rows)


_kept_single = functools.lru_cache(maxsize=64)(_single)


def _from_batch_without_reading(
    cls: type[Segments],
    batch: Tensor,
    num_segments: Any,
    is_sorted: bool,
    names: tuple[str, str],
) -> Segments:
    """Derive on the device, as one functional sequence of operations."""
    vector, size = names
    index = batch.to(torch.int64)
    if num_segments is None:
        if is_batched(batch):
            raise ValueError(
                f"{size} is not given; under vmap it cannot be read from {vector}: pass {size}, "
                "or a Segments"
            )
        # A number that is known when the graph runs. One id more: no rows have no largest.
        num_segments = torch.nn.functional.pad(index, (0, 1), value=-1).amax().item() + 1
        torch._check(num_segments >= 0)
    ptr, order = offsets_and_order(index, num_segments, is_sorted)
    if must_be_simple(batch):
        return cls(ptr, order, batch.shape[0], index=index)
    in_range = ((index >= 0) & (index < num_segments)).all()
    torch._assert_async(in_range, f"{vector} has an id outside 0 … {size} - 1")
    return cls(ptr, order, batch.shape[0], index=index)
