"""Data sets from the user's own code, and by name from the TU collection."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import pytest
import torch

from graphnorms.data import GraphSet, load_dataset, read_tu
from graphnorms.errors import DatasetError

MODULE = """
import torch
from torch_geometric.data import Data

from graphnorms.data import random_graphs

class Made:
    @staticmethod
    def graphs():
        return random_graphs(4, seed=1)

def molecules():
    edges = torch.tensor([[0, 1], [1, 0]])
    return [
        Data(edge_index=edges, num_nodes=2, y=torch.tensor([number]), edge_attr=torch.ones(2, 1))
        for number in (1, 2, 5)
    ]

def one():
    return Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2, y=torch.tensor([0, 1]))

def lazily():
    yield from molecules()

def number():
    return 3

def strings():
    return ["a", "b"]

def fails():
    raise RuntimeError("the disk\\nis gone")

constant = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pyg_data: ModuleType) -> Iterator[Path]:
    """A module `my_own` in the current directory, which is not on the path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_own.py").write_text(MODULE)
    (tmp_path / "needs.py").write_text("import no_such_package\n")
    (tmp_path / "broken.py").write_text("raise ValueError('not today')\n")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "inner.py").write_text("from my_own import molecules\n")
    before = list(sys.path)
    yield tmp_path
    assert sys.path == before
    for name in ("my_own", "needs", "broken", "package", "package.inner"):
        sys.modules.pop(name, None)


def test_a_factory(module: Path) -> None:
    graphs = load_dataset("my_own:molecules")
    assert (graphs.name, len(graphs), graphs.class_names) == ("molecules", 3, ("1", "2", "5"))
    assert graphs.num_edge_features == 1
    assert load_dataset("my_own:Made.graphs").name == "random-4"
    assert load_dataset("package.inner:molecules").fingerprint == graphs.fingerprint
    assert load_dataset("my_own:lazily").fingerprint == graphs.fingerprint
    assert load_dataset("my_own:one").task.level == "node"
    chosen = load_dataset(
        "my_own:molecules", features="constant", task="regression", edge_features="none"
    )
    assert chosen.features == "constant"
    assert chosen.y.tolist() == [[1], [2], [5]]
    assert chosen.edge_features is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("my_own:nothing", "my_own:nothing: my_own has no 'nothing'"),
        (
            "my_own:constant",
            "my_own:constant is of type int, expected a function that makes",
        ),
        ("my_own:number", "my_own:number returns something of type int, expected a GraphSet"),
        ("my_own:strings", "strings, graph 0: neither x nor num_nodes says how many nodes"),
        ("my_own:fails", "my_own:fails raised RuntimeError: the disk"),
        ("nowhere:graphs", "nowhere:graphs: no module 'nowhere' in "),
        ("package.other:graphs", "package.other:graphs: no module 'package.other' in "),
        ("needs:graphs", "importing needs raised ModuleNotFoundError: No module named 'no_such_p"),
        ("broken:graphs", "importing broken raised ValueError: not today"),
    ],
)
def test_factories_that_fail(module: Path, spec: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_finished_set_is_taken_as_it_is(module: Path) -> None:
    with pytest.raises(DatasetError, match="returns a GraphSet, whose features and task are made"):
        load_dataset("my_own:Made.graphs", task="regression")


# ---- the TU collection ----------------------------------------------------------------------


def raw(folder: Path, name: str = "PROTEINS", **changes: str | None) -> Path:
    """The text files of a set of two graphs: a path of three nodes and a pair."""
    files: dict[str, str | None] = {
        "A": "1, 2\n2, 1\n2,3\n3,2\n4, 5\n5, 4\n",
        "graph_indicator": "1\n1\n1\n2\n2\n",
        "graph_labels": "7\n-3\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, text in (files | changes).items():
        if text is not None:
            (folder / f"{name}_{part}.txt").write_text(text)
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, pyg_data: ModuleType) -> list[str]:
    """PyG's TUDataset as it is, but for a network that is not there; the sets it was asked for."""
    from torch_geometric.datasets import TUDataset

    asked: list[str] = []

    def download(self: Any) -> None:
        asked.append(self.name)
        raise URLError("no route to host\nat all")

    monkeypatch.setattr(TUDataset, "download", download)
    return asked


@pytest.mark.parametrize("inside", ["", "raw"])
def test_what_is_on_disk_is_read(tmp_path: Path, no_network: list[str], inside: str) -> None:
    expected = read_tu(raw(tmp_path / "PROTEINS" / inside))
    for name in ("PROTEINS", "proteins"):
        graphs = load_dataset(name, root=tmp_path)
        assert graphs.name == "PROTEINS"
        assert graphs.fingerprint == expected.fingerprint
    raw(tmp_path / "mine" / inside, "mine")
    assert load_dataset("mine", root=tmp_path).name == "mine"
    assert not no_network


def test_without_a_network_the_files_are_named(tmp_path: Path, no_network: list[str]) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset("enzymes", root=tmp_path)
    message = str(caught.value)
    assert message.startswith(f"data set 'ENZYMES' is not in {tmp_path / 'ENZYMES'}, and PyG could")
    assert "(URLError: <urlopen error no route to host" in message
    assert "put ENZYMES_A.txt, ENZYMES_graph_indicator.txt, ENZYMES_graph_labels.txt and" in message
    assert message.endswith(f"/ENZYMES.zip into {tmp_path / 'ENZYMES' / 'raw'}")
    assert "\n" not in message
    assert no_network == ["ENZYMES"]
    # What is advised works.
    raw(tmp_path / "ENZYMES" / "raw", "ENZYMES")
    assert len(load_dataset("enzymes", root=tmp_path)) == 2


def test_pyg_downloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pyg_data: ModuleType
) -> None:
    from torch_geometric.datasets import TUDataset

    def download(self: Any) -> None:
        raw(Path(self.raw_dir), self.name)

    monkeypatch.setattr(TUDataset, "download", download)
    graphs = load_dataset("DD", root=tmp_path)
    assert (graphs.name, len(graphs), graphs.num_edges) == ("DD", 2, 6)


def test_without_pyg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric.datasets", None)
    with pytest.raises(DatasetError, match="PyTorch Geometric, which would download it, cannot be"):
        load_dataset("DD", root=tmp_path)


def test_edges_and_numbers_of_tu_folders(tmp_path: Path) -> None:
    folder = raw(
        tmp_path / "set",
        edge_labels="3\n3\n9\n9\n3\n3\n",
        edge_attributes="0.1,1\n0.2,1\n0.3,1\n0.4,1\n0.5,1\n0.6,1\n",
        graph_attributes="0.5, 2\n1.5, 3\n",
    )
    both = load_dataset(folder).edge_features
    assert both is not None
    assert load_dataset(folder, edge_features="none").edge_features is None
    labels = load_dataset(folder, edge_features="labels").edge_features
    assert labels is not None
    assert labels.argmax(1).tolist() == [0, 0, 1, 1, 0, 0]
    attributes = load_dataset(folder, edge_features="attributes").edge_features
    assert attributes is not None
    # Of 2→1, 1→2, 3→2, 2→3, 5→4 and 4→5.
    assert [round(float(row[0]), 3) for row in attributes] == [0.2, 0.1, 0.4, 0.3, 0.6, 0.5]
    assert torch.equal(both, torch.cat((attributes, labels), 1))
    assert load_dataset(folder).task.kind == "classification"
    numbers = load_dataset(folder, task="regression")
    assert numbers.y.tolist() == [[0.5, 2], [1.5, 3]]
    (folder / "PROTEINS_graph_labels.txt").unlink()
    assert load_dataset(folder).fingerprint == numbers.fingerprint


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            {"edge_labels": "1\n"},
            "PROTEINS_edge_labels.txt, line 1: 1 line, expected 6, one for",
        ),
        ({"edge_labels": "1\n" * 5 + "x\n"}, "PROTEINS_edge_labels.txt, line 6: 'x' is not a fini"),
        ({"edge_labels": "1\n" * 5 + "0.5\n"}, "line 6: 0.5 is not an integer, expected an edge l"),
        ({}, "data set 'PROTEINS': no edge labels: ask for edge features none or auto"),
    ],
)
def test_malformed_edge_labels(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    folder = raw(tmp_path / "set", **parts)
    with pytest.raises(DatasetError) as caught:
        load_dataset(folder, edge_features="labels")
    assert message in str(caught.value)


def test_a_text_has_no_edge_features(text_file: Path, mutag: GraphSet) -> None:
    with pytest.raises(DatasetError, match="powerful-gnns text files have no edge labels"):
        load_dataset(text_file, edge_features="labels")
    assert load_dataset(text_file, task="regression").y.unique().tolist() == [-1, 1]
