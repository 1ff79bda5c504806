"""Data sets of PyG by name, from files in PyG's own formats; nothing is downloaded."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from graphnorms.data import load_dataset
from graphnorms.data.readers import pyg_names
from graphnorms.errors import DatasetError

pytest.importorskip("torch_geometric")


@pytest.fixture
def cora(tmp_path: Path) -> Path:
    """A set in Planetoid's format: two nodes to train on, 500 to validate, 5 to test."""
    scipy = pytest.importorskip("scipy.sparse")
    draw = np.random.default_rng(0)
    x = (draw.random((507, 4)) < 0.5).astype(np.float32)
    x[:, 0] += 0.5
    y = np.arange(507) % 2
    one_hot = np.eye(2, dtype=np.int32)[y]
    edges = {node: [(node + 1) % 507, (node - 1) % 507] for node in range(507)}
    parts = {
        "x": scipy.csr_matrix(x[:2]),
        "y": one_hot[:2],
        "allx": scipy.csr_matrix(x[:502]),
        "ally": one_hot[:502],
        "tx": scipy.csr_matrix(x[502:]),
        "ty": one_hot[502:],
        "graph": edges,
    }
    raw = tmp_path / "Planetoid" / "Cora" / "raw"
    raw.mkdir(parents=True)
    for name, value in parts.items():
        (raw / f"ind.cora.{name}").write_bytes(pickle.dumps(value))
    (raw / "ind.cora.test.index").write_text("".join(f"{n}\n" for n in range(502, 507)))
    return tmp_path


def test_planetoid(cora: Path) -> None:
    graphs = load_dataset("pyg:Planetoid/Cora", root=cora)
    assert (graphs.name, graphs.num_nodes, graphs.num_edges) == ("Cora", 507, 1014)
    assert graphs.y.tolist() == (np.arange(507) % 2).tolist()
    assert graphs.split is not None
    assert graphs.split.tolist() == [0] * 2 + [1] * 500 + [2] * 5
    assert graphs.metric == "accuracy"
    again = load_dataset("pyg:planetoid/name=Cora,split=public", root=cora)
    assert again.fingerprint == graphs.fingerprint
    # Where PyG was given the root itself.
    (cora / "Planetoid" / "Cora").rename(cora / "Cora")
    assert load_dataset("pyg:Planetoid/Cora", root=cora).fingerprint == graphs.fingerprint


@pytest.fixture
def minesweeper(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    part = np.stack([draw.permutation(40) % 4 for _ in range(10)])
    folder = tmp_path / "HeterophilousGraphDataset" / "minesweeper" / "raw"
    folder.mkdir(parents=True)
    np.savez(
        folder / "minesweeper.npz",
        node_features=draw.random((40, 3)).astype(np.float32),
        node_labels=np.arange(40) % 2,
        edges=np.stack((np.arange(39), np.arange(1, 40)), axis=1),
        train_masks=part < 2,
        val_masks=part == 2,
        test_masks=part == 3,
    )
    return tmp_path


def test_ten_splits_and_the_official_metric(minesweeper: Path) -> None:
    graphs = load_dataset("pyg:HeterophilousGraphDataset/Minesweeper", root=minesweeper)
    assert graphs.num_splits == 10
    assert (graphs.task.kind, graphs.metric) == ("binary", "roc_auc")
    raw = minesweeper / "HeterophilousGraphDataset" / "minesweeper" / "raw" / "minesweeper.npz"
    plain = load_dataset(raw, task="binary")
    assert plain.split is not None
    assert graphs.split is not None
    assert plain.split.equal(graphs.split)
    assert plain.x.equal(graphs.x)
    assert plain.edge_index.equal(graphs.edge_index)


class Parts(list[Any]):
    """A data set for each part, as PyG has them; its documentation says so.

    Args:
        root (str): A folder.
        name (str): One of :obj:`"Peptides-func"`, :obj:`"Peptides-struct"`.
        split (str, optional): If :obj:`"train"`, :obj:`"val"` or :obj:`"test"`, that part.
            (default: :obj:`"train"`)
    """

    def __init__(self, root: str, name: str, split: str = "train") -> None:
        sizes = {"train": 4, "val": 2, "test": 3}
        assert name == "Peptides-func"
        edges = torch.tensor([[0, 1], [1, 0]])
        super().__init__(
            SimpleNamespace(
                x=torch.full((2, 1), 0.5 + number),
                edge_index=edges,
                y=torch.tensor([[number % 2, 1.0]]),
                num_nodes=2,
            )
            for number in range(sizes[split])
        )


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    Parts.__name__ = "LRGBDataset"
    monkeypatch.setattr("torch_geometric.datasets.LRGBDataset", Parts)


@pytest.mark.usefixtures("parts")
def test_parts_become_one_set(tmp_path: Path) -> None:
    graphs = load_dataset("pyg:LRGBDataset/Peptides-func", root=tmp_path)
    assert graphs.split is not None
    assert graphs.split.tolist() == [0] * 4 + [1] * 2 + [2] * 3
    assert graphs.metric == "average_precision"
    only = load_dataset("pyg:LRGBDataset/Peptides-func,split=val", root=tmp_path)
    assert (len(only), only.split) == (2, None)
    with pytest.raises(DatasetError, match="no name 'Peptide-func'; did you mean Peptides-func"):
        load_dataset("pyg:LRGBDataset/Peptide-func", root=tmp_path)


def test_names_that_pyg_does_not_have(tmp_path: Path) -> None:
    for spec, message in (
        ("pyg:Planetoit/Cora", "PyG has no data set 'Planetoit'; did you mean Planetoid"),
        ("pyg:Nonsense", "PyG has no data set 'Nonsense'; pyg:Class/name"),
        ("pyg:", "PyG has no data set ''"),
        (
            "pyg:Planetoid",
            "needs its name, one of Cora, CiteSeer, PubMed; write pyg:Planetoid/NAME",
        ),
        ("pyg:Planetoid/Cora,splits=x", "has no argument 'splits'; did you mean split"),
        ("pyg:HeterophilousGraphDataset/Minesweper", "did you mean Minesweeper"),
        ("pyg:KarateClub/x", "takes no argument 'x'"),
    ):
        with pytest.raises(DatasetError, match=message):
            load_dataset(spec, root=tmp_path / "data")
    assert not any(tmp_path.iterdir())


def no_network(*_: object, **__: object) -> None:
    raise OSError("no network\nat all")


def test_what_to_put_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch_geometric.datasets.Planetoid.download", no_network)
    with pytest.raises(DatasetError) as caught:
        load_dataset("pyg:Planetoid/PubMed", root=tmp_path)
    folder = tmp_path / "Planetoid" / "PubMed" / "raw"
    message = str(caught.value)
    assert message.startswith(f"pyg:Planetoid/PubMed: not in {folder}, and PyG could not download")
    assert "(OSError: no network at all)" in message
    assert "put ind.pubmed.x, ind.pubmed.tx, ind.pubmed.allx, ind.pubmed.y" in message
    assert not any(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="no name 'PubMet'; did you mean PubMed"):
        load_dataset("pyg:Planetoid/PubMet", root=tmp_path)


def test_three_snapshots_are_three_parts() -> None:
    masks = [torch.tensor([True, False]), torch.tensor([True]), torch.tensor([False, True])]
    graphs = [SimpleNamespace(mask=mask) for mask in masks]
    find: Callable[[Any], Any] = pyg_names._snapshots
    assert find(graphs).tolist() == [0, -1, 1, -1, 2]
    assert find(graphs[:2]) is None
