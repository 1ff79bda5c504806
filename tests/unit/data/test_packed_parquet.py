"""Parquet files with one graph per row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from graphnorms.data import SplitConfig, load_dataset, split_items
from graphnorms.errors import DatasetError

pytest.importorskip("pyarrow")


def write(path: Path, **columns: Any) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), path)
    return path


GRAPHS: dict[str, Any] = {
    "edge_index": [[[0, 1], [1, 0]], [[], []], [[0, 1, 2], [1, 2, 0]]],
    "node_feat": [[[5], [6]], [[5]], [[6], [6], [5]]],
    "y": [[1], [0], [1]],
    "num_nodes": [2, 1, 3],
}


def test_files_as_on_the_hugging_face_hub(tmp_path: Path) -> None:
    edge_attr = [[[1], [1]], [], [[1], [2], [1]]]
    graphs = load_dataset(write(tmp_path / "g.parquet", **GRAPHS, edge_attr=edge_attr))
    assert graphs.ptr.tolist() == [0, 2, 3, 6]
    assert graphs.edge_ptr.tolist() == [0, 1, 2, 2, 3, 4, 5]
    assert graphs.edge_index.tolist() == [1, 0, 2, 0, 1]
    assert graphs.x[:, 1].tolist() == [0, 1, 0, 1, 1, 0]
    assert graphs.edge_features is not None
    assert graphs.edge_features[:, 1].tolist() == [0, 0, 0, 0, 1]
    assert graphs.y.tolist() == [1, 0, 1]
    assert graphs.name == "g"
    plain = GRAPHS | {"y": [0.5, 1.5, None], "split": [0, 2, 1]}
    del plain["node_feat"]
    numbers = load_dataset(write(tmp_path / "n.parquet", **plain))
    assert numbers.task.kind == "regression"
    assert numbers.known.tolist() == [True, True, False]
    assert numbers.split is not None
    assert numbers.split.tolist() == [0, 2, 1]


def test_targets_of_nodes(tmp_path: Path) -> None:
    graphs = load_dataset(write(tmp_path / "g.parquet", **GRAPHS | {"y": [[0, 1], [2], [0, 1, 2]]}))
    assert graphs.task.level == "node"
    assert graphs.y.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("name", ["MUTAG", "nci5k"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    graphs = load_dataset(name)
    graphs.to_parquet(tmp_path / "new" / "g.parquet")
    again = load_dataset(tmp_path / "new" / "g.parquet")
    assert again.fingerprint == graphs.fingerprint
    assert (again.name, again.task, again.features) == (graphs.name, graphs.task, graphs.features)
    assert (again.split_name, again.notes) == (graphs.split_name, graphs.notes)
    if graphs.split is not None:
        config = SplitConfig(kind="given")
        assert split_items(again, config).test.equal(split_items(graphs, config).test)


def test_nodes_are_read_back(tmp_path: Path) -> None:
    (tmp_path / "nodes.csv").write_text(
        "id,x,label,split\n" + "".join(f"{n},{n / 3},{'ab'[n % 2]},train\n" for n in range(6))
    )
    (tmp_path / "edges.csv").write_text("source,target,w\n0,1,0.1\n1,2,0.2\n4,5,0.3\n")
    graphs = load_dataset(tmp_path)
    graphs.to_parquet(tmp_path / "g.parquet")
    again = load_dataset(tmp_path / "g.parquet")
    assert again.fingerprint == graphs.fingerprint
    assert again.task == graphs.task


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edge_index": [[[0, 5], [1, 0]], [[], []], [[0], [1]]]}, "row 0: an edge 5, 0, but"),
        ({"edge_index": [[[0, 1], [1]], [[], []], [[0], [1]]]}, "two lists of equal length"),
        ({"edge_index": [[[0]], [[], []], [[0], [1]]]}, "two lists of equal length"),
        ({"node_feat": [[[5], [6, 7]], [[5]], [[6], [6], [5]]]}, "expected equally many numbers"),
        ({"y": [[1], [0], [1, 2]]}, "expected as many in each, or one for each node"),
        ({"z": [1, 2, 3], "y": None}, "no column y"),
    ],
)
def test_faults(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    columns = {name: value for name, value in (GRAPHS | change).items() if value is not None}
    with pytest.raises(DatasetError, match=message):
        load_dataset(write(tmp_path / "g.parquet", **columns))


def test_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "g.parquet").write_bytes(b"PAR1\x15\x04")
    with pytest.raises(DatasetError, match="no readable Parquet file"):
        load_dataset(tmp_path / "g.parquet")
