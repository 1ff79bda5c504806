from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graphnorms.data import GraphSet, Task, load_dataset
from graphnorms.data import onehot as module
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.data.onehot import OneHot
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading


def with_dense(graphs: GraphSet) -> GraphSet:
    """The same set with its features as a matrix."""
    return graphs._with(
        x=graphs.x,
        ptr=graphs.ptr,
        edge_ptr=graphs.edge_ptr,
        edge_index=graphs.edge_index,
        transpose_ptr=None,
        transpose_index=None,
        y=graphs.y,
    )


@pytest.fixture(params=["labels", "degree", "constant"])
def graphs(request: pytest.FixtureRequest) -> GraphSet:
    return load_dataset("MUTAG", features=request.param)


def test_blocks_stand_side_by_side() -> None:
    x = OneHot.from_blocks([(torch.tensor([1, 0]), 2), (torch.tensor([0, 2]), 3)])
    assert x.shape == (2, 5)
    assert x.dense().tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]
    assert x.dense().dtype == torch.float32
    assert x.index_select(0, torch.tensor([1, 1])).dense().tolist() == [[1, 0, 0, 0, 1]] * 2
    x.validate()


@pytest.mark.parametrize(
    ("width", "dtype"),
    [
        (1, torch.uint8),
        (256, torch.uint8),
        (257, torch.int16),
        (1 << 15, torch.int16),
        ((1 << 15) + 1, torch.int32),
    ],
)
def test_columns_are_as_narrow_as_they_can_be(width: int, dtype: torch.dtype) -> None:
    x = OneHot.from_blocks([(torch.tensor([0, width - 1]), width)])
    assert x.columns.dtype == dtype
    x.validate()
    assert x.dense().argmax(1).tolist() == [0, width - 1]


def test_readers_keep_one_hot_features_compact(graphs: GraphSet) -> None:
    kept = graphs.kept_x
    assert isinstance(kept, OneHot)
    assert kept.columns.nbytes == graphs.num_nodes
    assert graphs.x.shape == (graphs.num_nodes, graphs.num_features)
    assert graphs.x.sum(1).unique().tolist() == [1.0]
    check_graph_set(graphs)


def test_several_label_columns() -> None:
    raw = RawGraphs(
        name="two",
        ptr=np.array([0, 3]),
        source=np.array([0, 1]),
        target=np.array([1, 0]),
        y=np.array([0]),
        labels=np.array([[4, 1], [9, 1], [4, 2]]),
    )
    graphs = raw.pack(Reading(features="labels"))
    assert graphs.x.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]
    assert graphs.batch(torch.tensor([0])).x.tolist() == graphs.x.tolist()


def test_fingerprint_is_that_of_the_dense_features(
    graphs: GraphSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)  # several chunks, the last incomplete
    assert graphs.fingerprint == with_dense(graphs).fingerprint
    part = graphs.subset([5, 3])
    assert part.fingerprint == with_dense(part).fingerprint
    assert graphs.subset([]).fingerprint == with_dense(graphs.subset([])).fingerprint


def test_batches_and_subsets_are_those_of_the_dense_features(graphs: GraphSet) -> None:
    dense, ids = with_dense(graphs), torch.tensor([7, 0, 7, 150])
    assert torch.equal(graphs.batch(ids).x, dense.batch(ids).x)
    part = graphs.subset(ids)
    assert isinstance(part.kept_x, OneHot)
    assert torch.equal(part.x, dense.subset(ids).x)
    assert repr(graphs) == repr(dense)


def test_moving_and_pickling_keep_them_compact(graphs: GraphSet) -> None:
    assert graphs.to("cpu") is graphs
    moved = graphs.to("meta")
    assert isinstance(moved.kept_x, OneHot)
    assert moved.device.type == "meta"
    again = pickle.loads(pickle.dumps(graphs))
    assert isinstance(again.kept_x, OneHot)
    assert again.fingerprint == graphs.fingerprint


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (torch.tensor([[0], [2], [0]]), r"columns is torch.int64 of shape \(3, 1\), expected"),
        (torch.zeros(3, dtype=torch.uint8), r"columns is torch.uint8 of shape \(3,\)"),
        (torch.tensor([[0], [2], [0]], dtype=torch.int16), "columns holds 2, expected .* 0 … 1"),
        (torch.tensor([[0], [-1], [0]], dtype=torch.int32), "columns holds -1"),
    ],
)
def test_bad_columns(columns: Tensor, message: str) -> None:
    arguments: dict[str, Any] = {
        "name": "bad",
        "x": OneHot(columns, 2),
        "ptr": torch.tensor([0, 3]),
        "edge_ptr": torch.zeros(4).long(),
        "edge_index": torch.zeros(0).long(),
        "y": torch.tensor([0]),
        "features": "bad",
        "task": Task(kind="classification", targets=("a",)),
    }
    with pytest.raises(ValueError, match=message):
        GraphSet(**arguments)
