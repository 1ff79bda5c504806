from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import graphnorms as gn
from graphnorms.segments import Segments, as_segments, kept


def test_from_batch_sorted_keeps_the_rows() -> None:
    segments = Segments.from_batch(torch.tensor([0, 0, 2, 2, 2]), 4)
    assert segments.ptr.tolist() == [0, 2, 2, 5, 5]
    assert segments.order is None
    assert segments.counts.tolist() == [2, 0, 3, 0]
    assert segments.index.tolist() == [0, 0, 2, 2, 2]
    assert len(segments) == segments.num_segments == 4
    assert repr(segments) == "Segments(4 segments, 5 rows)"


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_from_batch_unsorted_orders_stably(dtype: torch.dtype) -> None:
    segments = Segments.from_batch(torch.tensor([2, 0, 2, 0, 5], dtype=dtype))
    assert segments.ptr.tolist() == [0, 2, 2, 4, 4, 4, 5]
    assert segments.order is not None
    assert segments.order.tolist() == [1, 3, 0, 2, 4]
    assert segments.index.tolist() == [2, 0, 2, 0, 5]
    assert repr(segments) == "Segments(6 segments, 5 rows, unsorted)"


def test_index_of_ordered_rows_without_a_batch_vector() -> None:
    made = Segments.from_batch(torch.tensor([2, 0, 2, 0]))
    segments = Segments(made.ptr, made.order, made.num_rows)
    assert segments.index.tolist() == [2, 0, 2, 0]


def test_from_ptr_and_from_counts_agree() -> None:
    a = Segments.from_ptr(torch.tensor([0, 2, 2, 5]))
    b = Segments.from_counts(torch.tensor([2, 0, 3]))
    assert a.ptr.tolist() == b.ptr.tolist()
    assert a.index.tolist() == [0, 0, 2, 2, 2]
    assert a.num_rows == b.num_rows == 5


def test_nothing_and_one_graph() -> None:
    assert Segments.from_batch(torch.zeros(0, dtype=torch.long)).num_segments == 0
    assert Segments.from_batch(torch.zeros(0, dtype=torch.long), 3).counts.tolist() == [0, 0, 0]
    assert Segments.single(4).index.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("batch", "size", "message"),
    [
        ([0, -2, 1], None, "batch has the negative id -2, expected ids from 0"),
        ([0, 7, 1], 3, "batch has the id 7, but batch_size is 3"),
        ([0, 0], -1, "batch_size is -1"),
        ([0.0, 1.0], None, r"batch is \(2,\) of torch.float32, expected a vector of integers"),
        ([[0], [1]], None, r"batch is \(2, 1\) of torch.int64, expected a vector"),
        ([True, False], None, "batch is .* of torch.bool"),
    ],
)
def test_bad_batches_are_named(batch: list[object], size: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segments.from_batch(torch.tensor(batch), size)


@pytest.mark.parametrize(
    ("ptr", "rows", "message"),
    [
        ([1, 2], None, "ptr begins with 1, expected 0"),
        ([0, 4, 3, 5], None, "ptr does not ascend: 4 is followed by 3 at position 2"),
        ([0, 4], 5, "ptr ends with 4, expected the number of rows 5"),
        ([], None, "ptr is"),
    ],
)
def test_bad_offsets_are_named(ptr: list[int], rows: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segments.from_ptr(torch.tensor(ptr), num_rows=rows)


def test_bad_counts_are_named() -> None:
    with pytest.raises(ValueError, match="counts has -1"):
        Segments.from_counts(torch.tensor([1, -1]))


def test_as_segments_checks_rows_and_size() -> None:
    x = torch.zeros(5, 2)
    with pytest.raises(ValueError, match="batch assigns 4 rows, but x has 5"):
        as_segments(torch.zeros(4, dtype=torch.long), rows_of=x)
    segments = Segments.from_counts(torch.tensor([2, 3]))
    assert as_segments(segments, rows_of=x, num_segments=2) is segments
    with pytest.raises(ValueError, match="batch_size is 3, but the Segments given has 2"):
        as_segments(segments, rows_of=x, num_segments=3)
    with pytest.raises(ValueError, match="batch is a list"):
        as_segments([0, 0, 0, 1, 1], rows_of=x)  # type: ignore[arg-type]


def test_a_batch_is_derived_once_and_again_when_written_to() -> None:
    x = torch.zeros(4, 2)
    batch = torch.tensor([0, 0, 1, 1])
    first = as_segments(batch, rows_of=x)
    assert as_segments(batch, rows_of=x) is first
    assert as_segments(batch, rows_of=x, num_segments=5).num_segments == 5
    batch[1] = 1
    assert as_segments(batch, rows_of=x).counts.tolist() == [1, 3]


def test_memory_forgets_dead_batches() -> None:
    x = torch.zeros(4, 2)
    gc.collect()
    before = len(kept)
    batch = torch.tensor([0, 0, 1, 1])
    as_segments(batch, rows_of=x)
    assert len(kept) == before + 1
    del batch
    gc.collect()
    assert len(kept) == before


def test_what_leaves_the_cpu_knows_its_longest_segment() -> None:
    segments = Segments.from_batch(torch.tensor([2, 0, 2, 2, 0]), 4)
    assert segments.longest is None
    assert segments.to("cpu") is segments
    assert segments.to("meta").longest == 3
    assert Segments.from_batch(torch.tensor([], dtype=torch.int64), 0).to("meta").longest is None


def test_nothing_is_found_or_kept_while_a_cuda_graph_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A replay reads the batch that is in the vector then; and the graph's memory is its own."""
    x, mask = torch.zeros(4, 2), torch.tensor([True, True, False, True])
    batch = torch.tensor([0, 0, 1, 1])
    known = as_segments(batch, rows_of=x)
    one = as_segments(None, rows_of=x)
    masked = known.with_mask(mask)
    fresh = Segments.from_ptr(torch.tensor([0, 1, 4]))
    entries = dict(kept)
    monkeypatch.setattr("graphnorms.tracing.is_recorded", lambda of: True)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    assert as_segments(batch, rows_of=x) is not known
    assert as_segments(None, rows_of=x) is not one
    assert known.with_mask(mask) is not masked
    assert as_segments(None, rows_of=x, mask=mask) is not as_segments(None, rows_of=x, mask=mask)
    assert fresh.index is not fresh.index
    assert fresh.counts is not fresh.counts
    assert kept == entries
    monkeypatch.undo()
    assert as_segments(batch, rows_of=x) is known
    assert known.with_mask(mask) is masked


def test_inference_tensors_work_and_are_not_remembered() -> None:
    x = torch.zeros(4, 2)
    before = len(kept)
    with torch.inference_mode():
        batch = torch.tensor([0, 0, 1, 1])
        assert as_segments(batch, rows_of=x).num_segments == 2
    assert len(kept) == before


@pytest.mark.parametrize(
    "layer", [gn.GraphNorm(4), gn.InstanceNorm(4), gn.LayerNorm(4), gn.BatchNorm(4)]
)
def test_layers_refuse_wrong_features(layer: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=r"x has shape \(3, 5\), expected \(nodes, .*4\)"):
        layer(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"x is torch\.int64, expected a floating dtype"):
        layer(torch.zeros(3, 4, dtype=torch.long))


def test_a_batch_vector_leads_back_to_its_segments() -> None:
    segments = Segments.from_counts(torch.tensor([2, 0, 3, 0]))
    batch = segments.as_batch()
    assert batch.tolist() == [0, 0, 2, 2, 2]
    x = torch.zeros(5, 1)
    assert as_segments(batch, rows_of=x) is segments
    assert as_segments(batch, rows_of=x, num_segments=4) is segments
    assert as_segments(batch, rows_of=x, num_segments=5) is not segments
    batch[0] = 2
    assert as_segments(batch, rows_of=x) is not segments, "it was written to"
    assert segments.index.tolist() == [0, 0, 2, 2, 2]


CHANGES: dict[str, Callable[[torch.Tensor], None]] = {
    "in place": lambda batch: batch.copy_(torch.tensor([0, 1, 1, 1])),
    "through data": lambda batch: batch.data.copy_(torch.tensor([0, 1, 1, 1])),
    "through NumPy": lambda batch: np.copyto(batch.numpy(), [0, 1, 1, 1]),
    "through DLPack": lambda batch: torch.from_dlpack(batch).copy_(torch.tensor([0, 1, 1, 1])),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("own_memory", [True, False])
def test_a_vector_that_changes_by_any_way_is_derived_anew(change: str, own_memory: bool) -> None:
    batch = torch.tensor([0, 0, 1, 1])
    if not own_memory:
        batch = torch.from_numpy(batch.numpy().copy())
    x = torch.zeros(4, 2)
    given = Segments.from_batch(batch)
    assert as_segments(batch, rows_of=x).ptr.tolist() == [0, 2, 4]
    CHANGES[change](batch)
    assert as_segments(batch, rows_of=x).ptr.tolist() == [0, 1, 4]
    # What was made of the vector does not change with it.
    assert given.index.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("batched", [True, False])
def test_a_mask_that_changes_through_data_is_derived_anew(batched: bool) -> None:
    batch = torch.tensor([0, 0, 1, 1]) if batched else None
    mask, x = torch.tensor([True, True, True, False]), torch.zeros(4, 2)
    assert int(as_segments(batch, rows_of=x, mask=mask).counts.sum()) == 3
    mask.data[0] = False
    assert int(as_segments(batch, rows_of=x, mask=mask).counts.sum()) == 2


def test_offsets_are_copied() -> None:
    ptr = torch.tensor([0, 2, 4])
    segments = Segments.from_ptr(ptr)
    ptr[1] = 1
    assert segments.ptr.tolist() == [0, 2, 4]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.uint32])
def test_every_integer_is_a_batch(dtype: torch.dtype) -> None:
    segments = Segments.from_batch(torch.tensor([0, 2, 2]).to(dtype))
    assert segments.counts.tolist() == [1, 0, 2]
    assert Segments.from_counts(torch.tensor([1, 0, 2]).to(dtype)).ptr.tolist() == [0, 1, 1, 3]


@pytest.mark.parametrize("size", [True, 2.0, "2", torch.tensor([2, 2])])
def test_what_is_no_number_of_graphs(size: Any) -> None:
    batch, x = torch.tensor([0, 1, 1]), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="expected the number of graphs as an integer"):
        as_segments(batch, rows_of=x, num_segments=size)


@pytest.mark.parametrize("size", [np.int64(2), torch.tensor(2)])
def test_what_is_one(size: Any) -> None:
    batch, x = torch.tensor([0, 1, 1]), torch.zeros(3, 2)
    assert as_segments(batch, rows_of=x, num_segments=size).num_segments == 2


def test_segments_with_a_mask() -> None:
    batch = torch.tensor([2, 0, 2, 1, 0])
    mask = torch.tensor([True, True, False, True, False])
    segments = Segments.from_batch(batch, 4).with_mask(mask)
    assert segments.ptr.tolist() == [0, 1, 2, 3, 3]
    assert segments.counts.tolist() == [1, 1, 1, 0]
    assert segments.order is not None
    assert segments.order.tolist() == [1, 3, 0, 2, 4]
    assert segments.index.tolist() == [2, 0, 4, 1, 4]
    twin = Segments(segments.ptr, segments.order, 5, masked=True)
    assert twin.index.tolist() == segments.index.tolist()
    assert repr(segments) == "Segments(4 segments, 5 rows, masked)"


def test_the_last_mask_is_remembered_until_it_is_written_to() -> None:
    x, batch = torch.zeros(20, 3), torch.arange(20) // 4
    mask = torch.arange(20) % 3 != 0
    first = as_segments(batch, rows_of=x, num_segments=5, mask=mask)
    assert as_segments(batch, rows_of=x, num_segments=5, mask=mask) is first
    assert as_segments(None, rows_of=x, mask=mask) is as_segments(None, rows_of=x, mask=mask)
    mask[0] = ~mask[0]
    assert as_segments(batch, rows_of=x, num_segments=5, mask=mask) is not first
