"""NumPy files: every array read, every wrong one named, and what is written read back."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphnorms.data import GraphSet, Task, load_dataset, random_graphs, read_npz, save_npz
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.data.onehot import OneHot
from graphnorms.errors import DatasetError

NAN = float("nan")

# Two graphs: a path of three nodes, whose edges are listed out of order, and a pair.
GRAPHS: dict[str, Any] = {
    "node_ptr": np.array([0, 3, 5], dtype=np.int32),
    "edge_ptr": np.array([0, 4, 6], dtype=np.int32),
    "edge_index": np.array([[2, 0, 1, 1, 1, 0], [1, 1, 0, 2, 0, 1]], dtype=np.int16),
    "x": np.array([[7, 0], [5, 0], [7, 2], [5, 0], [5, 2]], dtype=np.uint8),
    "edge_attr": np.array([[4], [3], [3], [4], [9], [3]], dtype=np.uint8),
    "y": np.array([[0.5], [NAN]], dtype=np.float32),
    "scaffold_split": np.array([0, 2], dtype=np.int8),
    "row": np.array(["ignored"]),
}
# One graph of four nodes: a triangle's two sides, a loop, and a node alone.
NODES: dict[str, Any] = {
    "edges": np.array([[0, 1], [2, 1], [2, 2]], dtype=np.int32),
    "x_ptr": np.array([0, 2, 2, 3, 4]),
    "x_ind": np.array([0, 4, 1, 4], dtype=np.int16),
    "x_dim": np.array(5),
    "y": np.array([1, 0, -1, 1], dtype=np.int8),
    "split": np.array([0, 1, 2, -1], dtype=np.int8),
    "class_names": np.array(["no", "yes", "perhaps"]),
}


def write(path: Path, arrays: dict[str, Any], **changes: Any) -> Path:
    """A file of some arrays; None leaves one out."""
    kept = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez_compressed(path, **kept)
    return path


def test_graphs(tmp_path: Path) -> None:
    graphs = read_npz(write(tmp_path / "two.npz", GRAPHS))
    check_graph_set(graphs)
    assert graphs.name == "two"
    assert graphs.ptr.tolist() == [0, 3, 5]
    assert graphs.edge_ptr.tolist() == [0, 1, 3, 4, 5, 6]
    assert graphs.edge_index.tolist() == [1, 0, 2, 1, 1, 0]
    # Columns of the labels 5 and 7, then of 0 and 2.
    assert graphs.x.tolist() == [
        [0, 1, 1, 0],
        [1, 0, 1, 0],
        [0, 1, 0, 1],
        [1, 0, 1, 0],
        [1, 0, 0, 1],
    ]
    # Labels 3, 4 and 9 of the edges 1→0, 0→1, 2→1, 1→2 and of 1→0, 0→1 of the other graph.
    assert graphs.edge_features is not None
    assert graphs.edge_features.argmax(1).tolist() == [0, 0, 1, 1, 2, 0]
    assert graphs.num_edge_features == 3
    assert isinstance(graphs.kept_edge_features, OneHot)
    assert graphs.task == Task(kind="regression", targets=("target",))
    assert graphs.known.tolist() == [True, False]
    assert graphs.split is not None
    assert (graphs.split.tolist(), graphs.split_name) == ([0, 2], "scaffold")
    assert load_dataset(tmp_path / "two.npz").fingerprint == graphs.fingerprint
    other = (tmp_path / "two.npz").rename(tmp_path / "without-ending")
    assert load_dataset(other).fingerprint == graphs.fingerprint


def test_nodes_of_one_graph(tmp_path: Path) -> None:
    graphs = read_npz(write(tmp_path / "one.npz", NODES))
    check_graph_set(graphs)
    assert len(graphs) == 1
    assert graphs.symmetric
    assert graphs.edge_ptr.tolist() == [0, 1, 3, 5, 5]
    assert graphs.edge_index.tolist() == [1, 0, 2, 1, 2]
    assert graphs.x.tolist() == [[1, 0, 0, 0, 1], [0] * 5, [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert graphs.task == Task(
        kind="classification", level="node", targets=("no", "yes", "perhaps")
    )
    assert graphs.y.tolist() == [1, 0, -1, 1]
    assert graphs.class_counts == (1, 2, 0)
    assert graphs.split is not None
    assert (graphs.split.tolist(), graphs.split_name) == ([0, 1, 2, -1], "given")
    # Features of undirected edges go both ways, and only once round a loop.
    featured = write(tmp_path / "featured.npz", NODES, edge_attr=np.array([1.0, 2.0, 3.0]))
    features = read_npz(featured).edge_features
    assert features is not None
    assert features[:, 0].tolist() == [1, 1, 2, 2, 3]


def test_what_is_inferred_of_y_can_be_set(tmp_path: Path) -> None:
    def task_of(y: Any, **options: Any) -> tuple[str, str, list[Any]]:
        path = write(tmp_path / "y.npz", GRAPHS, y=np.array(y), **options.pop("arrays", {}))
        graphs = read_npz(path, **options)
        check_graph_set(graphs)
        return graphs.task.kind, graphs.task.level, graphs.y.tolist()

    assert task_of([3, -1]) == ("classification", "graph", [1, 0])
    assert task_of([0.0, 1.0]) == ("binary", "graph", [[0], [1]])
    assert task_of([[0, 1], [1, 1]]) == ("binary", "graph", [[0, 1], [1, 1]])
    assert task_of([[0, 2], [1, 1]]) == ("regression", "graph", [[0, 2], [1, 1]])
    assert task_of([0.0, 2.0]) == ("regression", "graph", [[0], [2]])
    assert task_of([3, -1], task="regression") == ("regression", "graph", [[3], [-1]])
    assert task_of([3, -1], task="binary") == ("binary", "graph", [[1], [0]])
    assert task_of([0.0, 2.0], task="classification") == ("classification", "graph", [0, 1])
    assert task_of([0.0, NAN], task="classification") == ("classification", "graph", [0, -1])
    nodes = {"scaffold_split": None}
    assert task_of([5, -1, 5, 7, 7], arrays=nodes) == (
        "classification",
        "node",
        [0, -1, 0, 1, 1],
    )
    # The file's word counts, and the caller's more.
    regression = {"task": np.array("regression")}
    assert task_of([0.0, 1.0], arrays=regression)[0] == "regression"
    assert task_of([0.0, 1.0], arrays=regression, task="binary")[0] == "binary"


def test_features_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "two.npz", GRAPHS)
    assert read_npz(path, features="degree").features == "one-hot degree"
    numbers = read_npz(path, features="attributes", edge_features="attributes")
    assert numbers.x[:, 0].tolist() == [7, 5, 7, 5, 5]
    assert numbers.edge_features is not None
    assert numbers.edge_features[:, 0].tolist() == [3, 3, 4, 4, 9, 3]
    assert read_npz(path, edge_features="none").edge_features is None
    bare = write(tmp_path / "bare.npz", GRAPHS, x=None, edge_attr=None)
    assert read_npz(bare).features == "one-hot degree"
    with pytest.raises(DatasetError, match=r"bare\.npz: .* no edge labels: ask for edge features"):
        read_npz(bare, edge_features="labels")
    with pytest.raises(ValueError, match="unknown edge features 'label'; did you mean labels"):
        read_npz(path, edge_features="label")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown task 'regress'; did you mean regression"):
        read_npz(path, task="regress")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "array y: is missing; the file holds node_ptr, edge_ptr"),
        ({"y": np.array([["a", "b"]])}, "array y: is <U1 of shape (1, 2), expected numbers wit"),
        ({"y": np.zeros(3)}, "array y: has 3 rows, expected 2, one for each graph, or 5, for"),
        ({"y": np.array([0.0, np.inf])}, "y of graph 1 holds inf in column 0, which is not finite"),
        ({"y": np.array([0.5, 1.5]), "task": np.array("classification")}, "y holds 0.5, exp"),
        ({"y": np.full((2, 2), 0.5), "task": np.array("binary")}, "y holds 0.5, expected answers"),
        ({"y": np.zeros((2, 2)), "task": np.array("classification")}, "2 targets each, e"),
        ({"y": np.array([NAN, NAN]), "task": np.array("classification")}, "the class of no i"),
        ({"task": np.array("regress")}, "array task: unknown task 'regress'; did you mean regre"),
        ({"task": np.array(3)}, "array task: is int64 of shape (), expected a text"),
        ({"level": np.array("node")}, "array y: has 2 rows, expected 5, one for each node"),
        ({"class_names": np.array([1, 2])}, "array class_names: is int64 of shape (2,), expected"),
        (
            {"class_names": np.array(["a"]), "y": np.array([0, 1])},
            "y holds class 1, expected 0 … 0, for there are 1 class_names, or -1",
        ),
        ({"target_names": np.array(["a", "b"])}, "2 names of targets, expected 1, one for each co"),
        ({"node_ptr": np.array([0, 3, 4])}, "array node_ptr: goes from 0 to 4, expected offsets "),
        ({"node_ptr": np.array([0, 6, 5])}, "array node_ptr: does not ascend: 6 is followed by 5"),
        (
            {"node_ptr": np.array([0, 5, 5]), "edge_ptr": np.array([0, 6, 6])},
            "1 of 2 graphs has no nodes (1); drop_empty (--drop-",
        ),
        ({"node_ptr": np.array([0.0, 3, 5])}, "array node_ptr: is float64, expected integers"),
        ({"node_ptr": np.array([0])}, "array node_ptr: 1 entry, expected offsets from 0 on"),
        ({"node_ptr": None, "x": None}, "array node_ptr: is missing, and so is x"),
        ({"edge_ptr": None}, "array edge_ptr: is missing"),
        ({"edge_ptr": np.array([0, 4, 5])}, "array edge_ptr: goes from 0 to 5, expected offsets"),
        ({"edge_ptr": np.array([0, 6])}, "array edge_ptr: has 2 entries, expected 3, as node_ptr"),
        ({"edge_index": np.zeros((3, 6), int)}, "array edge_index: has shape (3, 6), expected (2,"),
        (
            {"edge_index": np.array([[2, 0, 1, 1, 1, 2], [1, 1, 0, 2, 0, 1]])},
            "array edge_index: edge 5 goes from 2 to 1, but its graph 1 has 2 nodes, counted from",
        ),
        ({"edge_index": None}, "array edge_index: is missing"),
        ({"edge_index": None, "edges": NODES["edges"]}, "array edges: but 2 graphs: give edge_ind"),
        ({"edge_attr": np.zeros((5, 1))}, "array edge_attr: 5 rows, expected 6, one for each edge"),
        ({"edge_attr": np.full((6, 1), NAN)}, "from node 2 to 1 (from 0) of graph 0 holds nan"),
        ({"x": np.zeros((5, 2, 1))}, "array x: is float64 of shape (5, 2, 1), expected numbers w"),
        ({"x": np.full((5, 1), np.inf)}, "node 0 (from 0) of graph 0 holds inf in column 0"),
        ({"x_width": np.array(7)}, "array x: holds 7, expected 0 … 6 by x_width"),
        ({"x_width": np.array(0)}, "array x_width: is 0, expected 1 or more"),
        ({"scaffold_split": np.array([0, 3])}, "split holds 3, expected 0 (train"),
        ({"scaffold_split": np.array([0])}, "split has 1 row, expected 2"),
        ({"random_split": np.array([0, 1])}, "array random_split: a second split beside scaff"),
    ],
)
def test_malformed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "bad.npz", GRAPHS, **change)
    with pytest.raises(DatasetError) as caught:
        load_dataset(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": np.array([[0, 4]])}, "array edges: holds 4, expected 0 … 3 by the number of no"),
        ({"edges": np.array([[0, 1, 2]])}, "array edges: has shape (1, 3), expected (pairs, 2)"),
        ({"x_ind": np.array([0, 5, 1, 4])}, "array x_ind: holds 5, expected 0 … 4 by x_dim"),
        ({"x_ptr": np.array([0, 2, 2, 3, 5])}, "array x_ptr: goes from 0 to 5, expected offsets f"),
        ({"y": np.array([0, 1, 3, 1])}, "y holds class 3, expected 0 … 2"),
    ],
)
def test_malformed_graph(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_npz(write(tmp_path / "bad.npz", NODES, **change))
    assert message in str(caught.value)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("code was executed",)


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = write(tmp_path / "two.npz", GRAPHS).read_bytes()
    objects = np.empty(1, dtype=object)
    objects[0] = Bomb()
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps(Bomb()))
    np.savez(tmp_path / "objects.npz", y=objects)
    (tmp_path / "text.npz").write_text("2\n3 7\n")
    (tmp_path / "cut.npz").write_bytes(whole[:-200])
    (tmp_path / "spoilt.npz").write_bytes(whole[:60] + b"\xff" * 40 + whole[100:])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name, reason in {
        "pickle.npz": "seems to be a pickle; read it in a function",
        "objects.npz": "array node_ptr: is missing",
        "text.npz": "not a .npz file of arrays",
        "cut.npz": "not a .npz file of arrays",
        "spoilt.npz": "array node_ptr: cannot be read",
        "empty.npz": "not a .npz file of arrays",
    }.items():
        with pytest.raises(DatasetError, match=f"{name}.*{re.escape(reason)}") as caught:
            load_dataset(tmp_path / name)
        assert "\n" not in str(caught.value)
    np.savez(tmp_path / "objects.npz", **GRAPHS | {"y": objects})
    with pytest.raises(DatasetError, match=r"array y: cannot be read .* allow_pickle=False"):
        load_dataset(tmp_path / "objects.npz")
    with pytest.raises(DatasetError, match=r"single\.npy: seems to be a single NumPy array"):
        load_dataset(tmp_path / "single.npy")
    with pytest.raises(DatasetError, match=r"none\.npz: no such file"):
        read_npz(tmp_path / "none.npz")


def sets() -> dict[str, GraphSet]:
    """Sets that a careless writer would change."""
    mutag = load_dataset("MUTAG")
    some = random_graphs(6, mean_nodes=5, num_features=3, seed=1)
    draw = torch.Generator().manual_seed(0)
    parts = torch.randint(-1, 3, (some.num_nodes,), generator=draw).to(torch.int8)
    y = torch.randint(0, 2, (some.num_nodes, 2), generator=draw).float()
    y[3] = NAN
    edges = torch.randint(0, 5, (some.num_edges, 2), generator=draw).to(torch.uint8)
    node = Task(kind="regression", level="node", targets=("a", "b"), unit="kcal/mol")
    return {
        "classes": mutag,
        "columns without ones": mutag.subset([3, 1]),
        "degree": load_dataset("MUTAG", features="degree"),
        "constant": load_dataset("MUTAG", features="constant"),
        "everything": some._with(
            y=y, task=node, split=parts, split_name="scaffold", edge_features=OneHot(edges, 9)
        ),
        "dense": some._with(edge_features=torch.randn(some.num_edges, 2, generator=draw)),
        "unknown": some._with(y=torch.tensor([0, -1, 1, 1, -1, 0])),
        "molecules": load_dataset("nci5k").subset(range(40)),
    }


@pytest.mark.parametrize("name", sets())
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    graphs = sets()[name]
    path = tmp_path / "set.npz"
    path.write_text("is replaced")
    save_npz(graphs, path)
    assert list(tmp_path.iterdir()) == [path]
    again = read_npz(path)
    check_graph_set(again)
    assert again.fingerprint == graphs.fingerprint
    assert again.task == graphs.task
    assert repr(again) == repr(graphs)
    assert again.describe() == graphs.describe()
    assert torch.equal(again.x, graphs.x)
    assert isinstance(again.kept_x, OneHot) >= isinstance(graphs.kept_x, OneHot)
    assert read_npz(path, "renamed").name == "renamed"


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, mutag: GraphSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "set.npz"
    save_npz(mutag, path)
    before = path.read_bytes()

    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space left"):
        save_npz(mutag.subset([0]), path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_nci5k() -> None:
    graphs = load_dataset("NCI5K")
    check_graph_set(graphs)
    assert graphs.name == "nci5k"
    assert (len(graphs), graphs.num_nodes, graphs.num_edges) == (4991, 81986, 2 * 84317)
    assert graphs.symmetric
    assert graphs.task == Task(kind="regression", targets=("Crippen logP",))
    assert graphs.split is not None
    assert torch.bincount(graphs.split).tolist() == [3993, 499, 499]
    assert graphs.split_name == "scaffold"
    # 2-methylbenzoquinone: seven carbons, two oxygens; a ring of six with three neighbours.
    first = graphs.subset([0])
    assert first.num_nodes == 9
    # Elements are the first columns, from boron (5), carbon (6), nitrogen (7), oxygen (8) on.
    assert first.x[:, :4].sum(0).tolist() == [0, 7, 0, 2]
    assert sorted(first.edge_ptr.diff().tolist()) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert first.edge_features is not None
    # Single, double, triple, aromatic, dative: 5 single bonds and 4 double ones, both ways.
    assert first.edge_features[:, :5].sum(0).tolist() == [10, 8, 0, 0, 0]
    assert float(first.y) == pytest.approx(0.6407, abs=1e-4)
    assert graphs.fingerprint == "fb516ac26e3713b9"
