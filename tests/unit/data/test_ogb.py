"""Data sets of the Open Graph Benchmark: raw folders, and objects with `get_idx_split()`."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from graphnorms.data import from_pyg, load_dataset
from graphnorms.errors import DatasetError
from graphnorms.lab.options import Options
from graphnorms.lab.resolve import resolve


def write(path: Path, rows: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt") as file:
        file.writelines(",".join(map(str, np.atleast_1d(row).tolist())) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three graphs: a path of three nodes, a single node, and a triangle."""
    home = tmp_path / "ogbg_molhiv"
    raw = home / "raw"
    write(raw / "num-node-list.csv.gz", [3, 1, 3])
    write(raw / "num-edge-list.csv.gz", [2, 0, 3])
    write(raw / "edge.csv.gz", [(0, 1), (1, 2), (0, 1), (1, 2), (0, 2)])
    write(raw / "node-feat.csv.gz", [(5, 0), (6, 1), (5, 0), (7, 0), (5, 0), (5, 0), (5, 1)])
    write(raw / "edge-feat.csv.gz", [0, 1, 0, 0, 2])
    write(raw / "graph-label.csv.gz", [1, 0, 1])
    for name, index in {"train": 2, "valid": 0, "test": 1}.items():
        write(home / "split" / "scaffold" / f"{name}.csv.gz", [index])
    return home


def test_a_folder(folder: Path) -> None:
    graphs = load_dataset(folder)
    assert graphs.ptr.tolist() == [0, 3, 4, 7]
    assert graphs.edge_ptr[graphs.ptr].diff().tolist() == [4, 0, 6]
    assert graphs.symmetric
    assert graphs.edge_index.tolist() == [1, 0, 2, 1, 1, 2, 0, 2, 0, 1]
    # Labels 5, 6, 7 and 0, 1; bonds 0, 1, 2 by edge, in both directions.
    assert graphs.x[1].tolist() == [0, 1, 0, 0, 1]
    assert graphs.edge_features is not None
    assert graphs.edge_features.argmax(1).tolist() == [0, 0, 1, 1, 0, 2, 0, 0, 2, 0]
    assert graphs.y[:, 0].tolist() == [1, 0, 1]
    assert graphs.task.kind == "binary"
    assert graphs.split is not None
    assert graphs.split.tolist() == [1, 2, 0]
    assert (graphs.split_name, graphs.metric) == ("scaffold", "roc_auc")
    assert load_dataset(folder / "raw").fingerprint != ""


def test_the_official_metric_is_the_default(folder: Path) -> None:
    for name, metric, labels in (
        ("ogbg_molhiv", "roc_auc", [1, 0, 1]),
        ("ogbg-molpcba", "average_precision", [1, 0, 1]),
        ("ogbg_molesol", "rmse", [0.5, 1, 2.5]),
        ("mine", "accuracy", [1, 0, 1]),
    ):
        home = folder.rename(folder.with_name(name))
        write(home / "raw" / "graph-label.csv.gz", labels)
        settings = resolve(Options(protocol="split"), load_dataset(home), name)
        assert settings.metric == metric
        folder = home
    chosen = resolve(Options(protocol="split", metric="accuracy"), load_dataset(folder), "")
    assert chosen.metric == "accuracy"


def test_missing_answers_and_several_targets(folder: Path) -> None:
    path = folder / "raw" / "graph-label.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write("1,\n0,1\n,0\n")
    y = load_dataset(folder).y
    assert torch.equal(y.isnan(), torch.tensor([[False, True], [False, False], [True, False]]))
    assert y.nan_to_num(5).tolist() == [[1, 5], [0, 1], [5, 0]]


def test_nodes_with_directions(tmp_path: Path) -> None:
    raw = tmp_path / "ogbn_arxiv" / "raw"
    write(raw / "num-node-list.csv.gz", [4])
    write(raw / "num-edge-list.csv.gz", [4])
    write(raw / "edge.csv.gz", [(0, 1), (1, 0), (2, 1), (3, 2)])
    write(raw / "node-feat.csv.gz", [(0.5, 1), (1.5, 2), (2, 3), (3, 4)])
    write(raw / "node-label.csv.gz", [2, 0, 2, 1])
    for name, index in {"train": [0, 3], "valid": [1], "test": [2]}.items():
        write(raw.parent / "split" / "time" / f"{name}.csv.gz", index)
    graphs = load_dataset(tmp_path / "ogbn_arxiv")
    assert (graphs.task.level, graphs.task.kind) == ("node", "classification")
    assert not graphs.symmetric
    assert graphs.num_edges == 4
    assert graphs.x.tolist() == [[0.5, 1], [1.5, 2], [2, 3], [3, 4]]
    assert graphs.split is not None
    assert graphs.split.tolist() == [0, 1, 2, 0]


def test_faults_name_the_file(folder: Path) -> None:
    raw = folder / "raw"
    write(raw / "edge.csv.gz", [(0, 1), (1, 3), (0, 1), (1, 2), (0, 2)])
    with pytest.raises(
        DatasetError, match=r"edge\.csv\.gz, line 2: an edge 1,3, but graph 0 has 3"
    ):
        load_dataset(folder)
    write(raw / "edge.csv.gz", [(0, 1), (1, 2)])
    with pytest.raises(DatasetError, match="with 5 edges in all, and 2 edges in edge"):
        load_dataset(folder)
    write(raw / "edge.csv.gz", [(0, 1), (1, 2), (0, 1), (1, 2), (0, 2)])
    write(raw / "graph-label.csv.gz", [1, 0])
    with pytest.raises(DatasetError, match="2 lines, expected 3, one per graph"):
        load_dataset(folder)
    (raw / "graph-label.csv.gz").unlink()
    with pytest.raises(DatasetError, match=r"neither graph-label\.csv\.gz nor"):
        load_dataset(folder)
    write(raw / "graph-label.csv.gz", [1, 0, 1])
    write(folder / "split" / "scaffold" / "test.csv.gz", [7])
    with pytest.raises(DatasetError, match=r"1 index in the test part \(7\)"):
        load_dataset(folder)
    with pytest.raises(DatasetError, match=r"target is 'y', .* the data are a raw folder of OGB"):
        load_dataset(folder, target="y")


class Ogb(list[Any]):
    """As the data sets of the package `ogb`."""

    eval_metric = "rocauc"
    name = "ogbg-molhiv"

    def get_idx_split(self) -> dict[str, torch.Tensor]:
        return {
            name: torch.tensor([place]) for place, name in enumerate(("test", "valid", "train"))
        }


def test_objects() -> None:
    edges = torch.tensor([[0, 1], [1, 0]])
    items = [
        SimpleNamespace(edge_index=edges, x=torch.ones(2, 1), y=torch.tensor([[label]]))
        for label in (0, 1, 1)
    ]
    graphs = from_pyg(Ogb(items))
    assert graphs.split is not None
    assert graphs.split.tolist() == [2, 1, 0]
    assert (graphs.metric, graphs.task.kind) == ("roc_auc", "binary")
    own = from_pyg(Ogb(items), split=[0, 1, 2], task="classification")
    assert own.split is not None
    assert own.split.tolist() == [0, 1, 2]
    assert own.task.kind == "classification"
