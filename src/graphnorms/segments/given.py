"""What a layer is given as `batch`, as Segments."""

from __future__ import annotations

from torch import Tensor

from graphnorms.segments.checks import check_mask, check_size
from graphnorms.segments.memory import memory
from graphnorms.segments.segments import Segments
from graphnorms.tracing import is_traced, may_keep


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
    elif is_traced():
        segments = Segments.from_batch(batch, num_segments, names=names)
    else:
        if num_segments is not None and type(num_segments) is not int:
            num_segments = check_size(names[1], num_segments)
        found = memory.find(batch, num_segments)
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


def _masked(
    batch: Tensor | Segments | None,
    rows_of: Tensor,
    num_segments: int | None,
    mask: Tensor,
    names: tuple[str, str],
) -> Segments:
    check_mask(mask, rows_of.shape[0], rows_of.device)
    if batch is not None or is_traced():
        segments = as_segments(batch, rows_of=rows_of, num_segments=num_segments, names=names)
        return segments.with_mask(mask)
    # One graph is derived anew by every layer, so it cannot remember its mask.
    found = memory.find(mask, None)
    if found is not None and found.num_rows == rows_of.shape[0]:
        return found
    segments = Segments.single(rows_of.shape[0], rows_of.device).with_mask(mask)
    if may_keep(mask) and not mask.is_inference():
        memory.keep(mask, None, segments)
    return segments


def _derive(batch: Tensor, num_segments: int | None, names: tuple[str, str]) -> Segments:
    segments = Segments.from_batch(batch, num_segments, names=names)
    if may_keep(batch) and not batch.is_inference():
        memory.keep(batch, num_segments, segments)
    return segments
