"""Which rows belong to which graph: validated and built once per batch."""

from __future__ import annotations

import functools
import weakref
from typing import Any, Final

import torch
from torch import Tensor

_INTEGERS: Final = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


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
        self._last_mask: tuple[weakref.ref[Tensor], int, Segments] | None = None

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
        _check_integer_vector("ptr", ptr)
        if ptr.shape[0] == 0:
            raise ValueError("ptr is empty, expected segments + 1 offsets beginning with 0")
        ptr = ptr.to(torch.int64)
        if validate or (validate is None and ptr.is_cpu):
            _check_offsets(ptr, num_rows)
        if num_rows is None:
            num_rows = int(ptr[-1])
        return cls(ptr, None, num_rows, longest=longest)

    @classmethod
    def from_counts(cls, counts: Tensor) -> Segments:
        """Build from the number of rows of each segment, as DGL's `batch_num_nodes()` gives it.

        Raises:
            ValueError: `counts` is not a vector of integers, or one is negative.
        """
        _check_integer_vector("counts", counts)
        if counts.shape[0] and int(counts.min()) < 0:
            raise ValueError(f"counts has {int(counts.min())}, expected no negative number")
        return cls.from_ptr(_offsets(counts.to(torch.int64)), validate=False)

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
                from the largest id if not given, which reads the device once.
            sorted: That the ids ascend; `None` finds out on the CPU.
            validate: On a GPU, read the device to name a value outside the range.
            names: What errors call the vector and the number of segments.

        Raises:
            ValueError: `batch` is not a vector of integers, or an id is negative or not below
                `num_segments`.
        """
        _check_integer_vector(names[0], batch)
        if torch.compiler.is_compiling() or torch._C._functorch.is_batchedtensor(batch):
            return _from_batch_without_reading(cls, batch, num_segments, bool(sorted), names)
        if num_segments is None:
            num_segments = int(batch.max()) + 1 if batch.shape[0] else 0
        index = batch.to(torch.int64)
        if batch.is_cpu or validate:
            _check_ids(index, num_segments, names)
        if not batch.is_cpu:
            return _from_batch_without_reading(cls, index, num_segments, bool(sorted), names)
        if sorted is None:
            sorted = bool((index[1:] >= index[:-1]).all())
        order = None if sorted else torch.argsort(index, stable=True)
        counts = torch.bincount(index, minlength=num_segments)
        segments = cls(_offsets(counts), order, batch.shape[0], index=index)
        segments._counts = counts
        return segments

    @classmethod
    def single(cls, num_rows: int, device: torch.device | None = None) -> Segments:
        """Build the partition in which all rows are one graph."""
        if torch.compiler.is_compiling():
            ptr = torch.arange(2, device=device) * num_rows
            return cls(ptr, None, num_rows, longest=num_rows)
        return (_single if _may_keep() else _single.__wrapped__)(num_rows, device)

    def with_mask(self, mask: Tensor) -> Segments:
        """Leave out rows, as padded nodes: they neither count nor change.

        Nothing is read back from a device. The result for the last mask is kept.

        Args:
            mask: Which rows stay, bool, `(rows,)`.

        Raises:
            ValueError: `mask` is not a vector of bool, or not one per row, or elsewhere.
        """
        check_mask(mask, self.num_rows, self.ptr.device)
        may_keep = _may_keep() and not mask.is_inference()
        if may_keep and self._last_mask is not None:
            last, version, kept = self._last_mask
            if last() is mask and version == mask._version:
                return kept
        index = self.index.masked_fill(~mask, self.num_segments)
        ptr, order = _offsets_and_order(index, self.num_segments)
        segments = Segments(ptr, order, self.num_rows, index=index, masked=True)
        if may_keep:
            self._last_mask = (weakref.ref(mask), mask._version, segments)
        return segments

    @property
    def counts(self) -> Tensor:
        """Rows of each segment, int64, `(segments,)`."""
        if self._counts is not None:
            return self._counts
        counts = self.ptr.diff()
        if _may_keep():
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
        if _may_keep():
            self._index = index
        return index

    def as_batch(self) -> Tensor:
        """Return `index` for code that hands a batch vector on, as PyG's models do.

        Layers that are given this vector find these Segments again, and derive nothing.
        """
        # A copy, which a model may write to, and which is not held here: else its entry in the
        # memory would never go.
        batch = self.index.clone()
        if _may_keep() and not batch.is_inference() and not self.masked:
            for num_segments in (None, self.num_segments):
                _memory.keep(batch, num_segments, self)
        return batch

    @property
    def device(self) -> torch.device:
        """Where the offsets lie."""
        return self.ptr.device

    def to(self, device: torch.device | str) -> Segments:
        """Copy to a device; `self` where it is there already."""
        if self.ptr.device == torch.device(device):
            return self
        return Segments(
            self.ptr.to(device),
            None if self.order is None else self.order.to(device),
            self.num_rows,
            longest=self.longest,
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


@functools.lru_cache(maxsize=64)
def _single(num_rows: int, device: torch.device | None) -> Segments:
    ptr = torch.tensor([0, num_rows], device=device)
    return Segments(ptr, None, num_rows, longest=num_rows)


def as_segments(
    batch: Tensor | Segments | None,
    *,
    rows_of: Tensor,
    num_segments: int | None = None,
    mask: Tensor | None = None,
    names: tuple[str, str] = ("batch", "batch_size"),
) -> Segments:
    """Turn what a layer was given as `batch` into the Segments of the rows of `rows_of`.

    In eager mode the Segments of a batch vector are kept as long as the vector lives and is not
    written to, so that the layers of one model derive them once.

    Args:
        batch: A batch vector, a `Segments`, or `None` for one graph.
        rows_of: The features, `(rows, …)`.
        num_segments: `batch_size`; checked against a `Segments`, ignored for `None`.
        mask: Which rows count, bool, `(rows,)`; `None` for all. Kept as the batch vector is.
        names: What errors call `batch` and `num_segments`.

    Raises:
        ValueError: `batch` does not assign exactly the rows of `rows_of`, is on another device,
            or holds an id outside its range; or `mask` is not one bool per row.
    """
    rows = rows_of.shape[0]
    if mask is not None:
        return _masked(batch, rows_of, num_segments, mask, names)
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
    elif torch.compiler.is_compiling():
        segments = Segments.from_batch(batch, num_segments, names=names)
    else:
        found = _memory.find(batch, num_segments)
        segments = _derive(batch, num_segments, names) if found is None else found
    if segments.num_rows != rows:
        raise ValueError(f"{names[0]} assigns {segments.num_rows} rows, but x has {rows}")
    on_cpu = segments.ptr.is_cpu and rows_of.is_cpu  # comparing devices takes longer
    if not on_cpu and segments.ptr.device != rows_of.device:
        raise ValueError(
            f"{names[0]} is on {segments.ptr.device}, but x is on {rows_of.device}; move one of "
            "them"
        )
    return segments


def check_mask(mask: Tensor, rows: int, device: torch.device) -> None:
    """Refuse a mask that is not one bool per row, on the device of the rows."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (rows,):
        given = (
            f"{tuple(mask.shape)} of {mask.dtype}"
            if isinstance(mask, Tensor)
            else f"a {type(mask).__name__}"
        )
        raise ValueError(
            f"mask is {given}, expected one bool per row, ({rows},): True for the rows that count"
        )
    if mask.device != device:
        raise ValueError(f"mask is on {mask.device}, but the rows are on {device}")


def _masked(
    batch: Tensor | Segments | None,
    rows_of: Tensor,
    num_segments: int | None,
    mask: Tensor,
    names: tuple[str, str],
) -> Segments:
    check_mask(mask, rows_of.shape[0], rows_of.device)
    if batch is not None or torch.compiler.is_compiling():
        segments = as_segments(batch, rows_of=rows_of, num_segments=num_segments, names=names)
        return segments.with_mask(mask)
    # One graph is derived anew by every layer, so it cannot remember its mask.
    found = _memory.find(mask, None)
    if found is not None and found.num_rows == rows_of.shape[0]:
        return found
    segments = Segments.single(rows_of.shape[0], rows_of.device).with_mask(mask)
    if _may_keep() and not mask.is_inference():
        _memory.keep(mask, None, segments)
    return segments


class _Memory:
    """The Segments of recently seen batch vectors, by the identity of the vector."""

    def __init__(self) -> None:
        self.entries: dict[tuple[int, int | None], tuple[weakref.ref[Tensor], int, Segments]] = {}

    def find(self, batch: Tensor, num_segments: int | None) -> Segments | None:
        entry = self.entries.get((id(batch), num_segments))
        if entry is None or entry[0]() is not batch or entry[1] != batch._version:
            return None
        return entry[2]

    def keep(self, batch: Tensor, num_segments: int | None, segments: Segments) -> None:
        key = (id(batch), num_segments)

        def forget(dead: weakref.ref[Tensor]) -> None:
            # Another tensor may have got the same id in the meantime.
            entry = self.entries.get(key)
            if entry is not None and entry[0] is dead:
                del self.entries[key]

        self.entries[key] = (weakref.ref(batch, forget), batch._version, segments)


_memory = _Memory()


def _derive(batch: Tensor, num_segments: int | None, names: tuple[str, str]) -> Segments:
    segments = Segments.from_batch(batch, num_segments, names=names)
    if _may_keep() and not batch.is_inference():
        # A Segments that holds the vector itself would keep it, and so the entry, alive.
        if segments._index is batch:
            segments._index = batch.detach()
        _memory.keep(batch, num_segments, segments)
    return segments


def _may_keep() -> bool:
    """Whether what is derived now outlives the call.

    In a compiled graph a kept tensor would be a side effect and a reason to compile again, under
    a transform of `torch.func` it belongs to the transform, and one made in inference mode cannot
    be used in training.
    """
    return not (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch.is_inference_mode_enabled()
    )


def _from_batch_without_reading(
    cls: type[Segments],
    batch: Tensor,
    num_segments: int | None,
    is_sorted: bool,
    names: tuple[str, str],
) -> Segments:
    """Derive on the device, as one functional sequence of operations."""
    vector, size = names
    if num_segments is None:
        raise ValueError(
            f"{size} is not given; under torch.compile, torch.export and vmap it cannot be "
            f"read from {vector}: pass {size}, or a Segments"
        )
    index = batch.to(torch.int64)
    ptr, order = _offsets_and_order(index, num_segments, is_sorted)
    if _must_be_simple(batch):
        return cls(ptr, order, batch.shape[0], index=index)
    in_range = ((index >= 0) & (index < num_segments)).all()
    torch._assert_async(in_range, f"{vector} has an id outside 0 … {size} - 1")
    return cls(ptr, order, batch.shape[0], index=index)


def _offsets_and_order(
    index: Tensor, num_segments: int, is_sorted: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Where the segments begin, and the rows by segment (`None` if they stand so already)."""
    bounds = torch.arange(num_segments + 1, device=index.device)
    if _must_be_simple(index):
        return (index.unsqueeze(1) < bounds).sum(0), torch.sort(index)[1]
    if is_sorted:
        return torch.searchsorted(index.contiguous(), bounds), None
    ordered, order = torch.sort(index, stable=True)
    return torch.searchsorted(ordered.contiguous(), bounds), order


def _must_be_simple(batch: Tensor) -> bool:
    """Whether ONNX or vmap, which have neither a stable sort nor a binary search, take part.

    The order then need not be stable: plain torch runs, and asks only for a row of each segment.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export()
    return torch._C._functorch.is_batchedtensor(batch)


def _offsets(counts: Tensor) -> Tensor:
    ptr = counts.new_zeros(counts.shape[0] + 1)
    torch.cumsum(counts, 0, out=ptr[1:])
    return ptr


def _check_integer_vector(name: str, vector: Tensor) -> None:
    if not isinstance(vector, Tensor) or vector.dim() != 1 or vector.dtype not in _INTEGERS:
        given = (
            f"{tuple(vector.shape)} of {vector.dtype}"
            if isinstance(vector, Tensor)
            else type(vector).__name__
        )
        raise ValueError(f"{name} is {given}, expected a vector of integers")


def _check_ids(index: Tensor, num_segments: int, names: tuple[str, str]) -> None:
    vector, size = names
    if num_segments < 0:
        raise ValueError(f"{size} is {num_segments}, expected no negative number")
    if not index.shape[0]:
        return
    low, high = (int(value) for value in torch.aminmax(index))
    if low < 0:
        raise ValueError(f"{vector} has the negative id {low}, expected ids from 0")
    if high >= num_segments:
        raise ValueError(f"{vector} has the id {high}, but {size} is {num_segments}")


def _check_offsets(ptr: Tensor, num_rows: int | None) -> None:
    if int(ptr[0]) != 0:
        raise ValueError(f"ptr begins with {int(ptr[0])}, expected 0")
    steps = ptr.diff()
    if steps.shape[0] and int(steps.min()) < 0:
        where = int((steps < 0).nonzero()[0, 0])
        raise ValueError(
            f"ptr does not ascend: {int(ptr[where])} is followed by {int(ptr[where + 1])} "
            f"at position {where + 1}"
        )
    if num_rows is not None and int(ptr[-1]) != num_rows:
        raise ValueError(f"ptr ends with {int(ptr[-1])}, expected the number of rows {num_rows}")
