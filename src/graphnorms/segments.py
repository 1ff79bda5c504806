"""Segments: the graph of every row, checked and derived once per batch."""

from __future__ import annotations

import functools
import weakref
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms import tracing
from graphnorms.index_checks import (
    check_ids,
    check_integer_vector,
    check_mask,
    check_offsets,
    check_size,
)
from graphnorms.offsets import offsets_and_order, offsets_of, runs_without_search
from graphnorms.tracing import VectorSnapshot, is_batched, is_traced, may_keep


class Segments:
    r"""A partition of rows into segments, one per graph.

    Segment $s$ has the positions $\mathrm{ptr}_s \le i < \mathrm{ptr}_{s+1}$; the row at position
    $i$ is `order[i]`, or $i$ itself if `order` is `None`. Segments may be empty.

    Make one with `from_ptr`, `from_counts`, `from_batch` or `single`, once per minibatch, and pass
    it to every layer as `batch`: nothing is derived or checked again then.

    Attributes:
        ptr: Offsets, int64, `(segments + 1,)`.
        order: The rows in the order of their segments, int64, `(rows,)`, or `None`; masked rows are
            last.
        masked: Whether there may be rows outside of all segments; see `with_mask`.
        num_segments, num_rows: The sizes, known on the host.
        longest: Rows of the longest segment if known on the host, else `None`.
    """

    __slots__ = (
        "__weakref__",
        "_counts",
        "_index",
        "_last_mask",
        "longest",
        "masked",
        "num_rows",
        "num_segments",
        "order",
        "ptr",
    )

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
        self._last_mask: tuple[VectorSnapshot, Segments] | None = None

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
            num_rows: The required end of `ptr`; read from `ptr` if not given.
            longest: Rows of the longest segment, if known.
            validate: Whether to check the values; `None` checks on the CPU only, because checking
                synchronizes a GPU.

        Raises:
            ValueError: `ptr` is not a vector of integers, does not begin at 0, does not ascend,
                or does not end at `num_rows`.
        """
        check_integer_vector("ptr", ptr)
        if ptr.shape[0] == 0:
            raise ValueError("ptr is empty, expected segments + 1 offsets beginning with 0")
        ptr = ptr.to(torch.int64, copy=True)  # later writes must not change it
        if validate or (validate is None and ptr.is_cpu and not is_traced()):
            check_offsets(ptr, num_rows)
        rows: Any = ptr[-1].item() if num_rows is None else num_rows
        return cls(ptr, None, rows, longest=longest)

    @classmethod
    def from_counts(cls, counts: Tensor) -> Segments:
        """Build from the number of rows of each segment, as returned by DGL's `batch_num_nodes()`.

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

        On the CPU the ids are checked, and sorted rows are detected. On other devices nothing is
        read back: rows are assumed to be unsorted unless `sorted=True`, and ids outside the range
        fail an assertion on the device.

        Args:
            batch: Segment of each row, integer, `(rows,)`.
            num_segments: Number of segments, including empty ones at the end. If not given, it is
                read from the largest id, which synchronizes the device once; in a traced graph it
                is then known at run time only.
            sorted: Whether the ids ascend; `None` checks it on the CPU.
            validate: On a GPU, synchronize to name an id outside the range.
            names: The names of the vector and the number of segments in errors.

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
            index = batch.clone()  # later writes must not change it
        segments = cls(offsets_of(counts), order, batch.shape[0], index=index)
        segments._counts = counts
        return segments

    @classmethod
    def single(cls, num_rows: int, device: torch.device | None = None) -> Segments:
        """Build the partition with all rows in one graph."""
        return (_kept_single if may_keep(device) else _single)(num_rows, device)

    def with_mask(self, mask: Tensor) -> Segments:
        """Exclude rows, e.g. padding: they do not count and are passed through.

        This does not synchronize the device. The result for the last mask is cached.

        Args:
            mask: True for the rows that count, bool, `(rows,)`.

        Raises:
            ValueError: `mask` is not one bool per row, or on another device.
        """
        check_mask(mask, self.num_rows, self.ptr.device)
        keeps = may_keep(mask) and not mask.is_inference()
        if keeps and self._last_mask is not None:
            snapshot, kept = self._last_mask
            if snapshot.matches(mask):
                return kept
        index = self.index.masked_fill(~mask, self.num_segments)
        ptr, order = offsets_and_order(index, self.num_segments)
        segments = Segments(ptr, order, self.num_rows, index=index, masked=True)
        if keeps:
            self._last_mask = (VectorSnapshot(mask), segments)
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

        Masked rows have the index `num_segments`.
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
        """Return `index` for code that passes a batch vector on, like PyG's models.

        Layers that get this vector find these Segments in the cache.
        """
        # A copy, because a model may write to it, and because a reference from here would keep its
        # cache entry alive forever.
        batch = self.index.clone()
        if not self.masked:
            for num_segments in (None, self.num_segments):
                _keep(batch, num_segments, self)
        return batch

    @property
    def device(self) -> torch.device:
        """The device of the offsets."""
        return self.ptr.device

    def to(self, device: torch.device | str) -> Segments:
        """Copy to a device; `self` if it is already there.

        A copy from the CPU includes `longest`, which saves launches on a GPU.
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

    def __getstate__(self) -> tuple[None, dict[str, Any]]:
        state = {name: getattr(self, name) for name in self.__slots__ if name != "__weakref__"}
        return None, {**state, "_counts": None, "_last_mask": None}

    def __len__(self) -> int:
        return self.num_segments

    def __repr__(self) -> str:
        order = ", masked" if self.masked else "" if self.order is None else ", unsorted"
        return f"Segments({self.num_segments} segments, {self.num_rows} rows{order})"


def _single(num_rows: int, device: torch.device | None) -> Segments:
    # torch.tensor would synchronize a GPU.
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
    """Derive on the device by functional operations."""
    vector, size = names
    index = batch.to(torch.int64)
    if num_segments is None:
        if is_batched(batch):
            raise ValueError(
                f"{size} is not given; under vmap it cannot be read from {vector}: pass {size}, "
                "or a Segments"
            )
        # A number known at run time. One id is added because an empty vector has no maximum.
        num_segments = torch.nn.functional.pad(index, (0, 1), value=-1).amax().item() + 1
        torch._check(num_segments >= 0)
    ptr, order = offsets_and_order(index, num_segments, is_sorted)
    if runs_without_search(batch):
        return cls(ptr, order, batch.shape[0], index=index)
    in_range = ((index >= 0) & (index < num_segments)).all()
    tracing.assert_async(in_range, f"{vector} has an id outside 0 … {size} - 1")
    return cls(ptr, order, batch.shape[0], index=index)


def as_segments(
    batch: Tensor | Segments | None,
    *,
    rows_of: Tensor,
    num_segments: int | None = None,
    mask: Tensor | None = None,
    names: tuple[str, str] = ("batch", "batch_size"),
) -> Segments:
    """Convert the argument `batch` of a layer to the Segments of the rows of `rows_of`.

    In eager mode the Segments of a batch vector are cached until the vector is deleted or changed,
    so that the layers of a model derive them once.

    Args:
        batch: A batch vector, a `Segments`, or `None` for one graph.
        rows_of: The features, `(rows, …)`.
        num_segments: `batch_size`; checked against a `Segments`, ignored for `None`.
        mask: True for the rows that count, bool, `(rows,)`; `None` for all. Cached like the batch
            vector.
        names: The names of `batch` and `num_segments` in errors.

    Raises:
        ValueError: `batch` does not assign exactly the rows of `rows_of`, is on another device,
            or holds an id outside its range; or `mask` is not one bool per row.
    """
    rows = rows_of.shape[0]
    if mask is not None:
        check_mask(mask, rows, rows_of.device)
        whole = as_segments(batch, rows_of=rows_of, num_segments=num_segments, names=names)
        return whole.with_mask(mask)
    if isinstance(batch, Segments):
        segments = batch
        if num_segments is not None and num_segments != segments.num_segments:
            raise ValueError(
                f"{names[1]} is {num_segments}, but the Segments given has {segments.num_segments}"
            )
    elif batch is None:
        return Segments.single(rows, rows_of.device)
    elif not isinstance(batch, Tensor):
        raise ValueError(
            f"{names[0]} is a {type(batch).__name__}, expected a vector of integers or a Segments"
        )
    else:
        if num_segments is not None and type(num_segments) is not int:
            num_segments = check_size(names[1], num_segments)
        # No cache in code that is replayed after the vector has changed.
        replayed = (
            torch.compiler.is_compiling()
            or tracing.dispatch_modes()
            or (batch.is_cuda and tracing.is_recorded(batch))
        )
        entry = None if replayed else kept.get((id(batch), num_segments))
        if entry is not None and entry[0].matches(batch):
            segments = entry[1]
        else:
            segments = Segments.from_batch(batch, num_segments, names=names)
            _keep(batch, num_segments, segments)
    if segments.num_rows != rows:
        raise ValueError(f"{names[0]} assigns {segments.num_rows} rows, but x has {rows}")
    on_cpu = segments.ptr.is_cpu and rows_of.is_cpu  # faster than comparing devices
    if not on_cpu and segments.ptr.device != rows_of.device:
        raise ValueError(
            f"{names[0]} is on {segments.ptr.device}, but x is on {rows_of.device}; move one "
            "of them"
        )
    return segments


kept: Final[dict[tuple[int, int | None], tuple[VectorSnapshot, Segments]]] = {}
"""The cached Segments by the id of the batch vector and the requested number of segments; an entry
is removed with its vector."""


def _keep(vector: Tensor, num_segments: int | None, segments: Segments) -> None:
    """Cache Segments for a vector, if its changes are counted."""
    if not may_keep(vector) or vector.is_inference():
        return
    key = (id(vector), num_segments)
    entries = kept  # module globals are gone when vectors are deleted at interpreter exit

    def forget(dead: weakref.ref[Tensor]) -> None:
        # Another tensor may have the same id by now.
        entry = entries.get(key)
        if entry is not None and entry[0].vector is dead:
            del entries[key]

    entries[key] = (VectorSnapshot(vector, forget), segments)
