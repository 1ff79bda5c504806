"""What public files are like, each property in a file of a few lines, and what is made of it."""

from __future__ import annotations

import gzip
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from graphnorms.data import (
    GraphSet,
    SplitConfig,
    from_pyg,
    load_dataset,
    random_graphs,
    read_npz,
    read_tu,
    split_items,
    stratified_folds,
)
from graphnorms.data.graphset_checks import check_graph_set
from graphnorms.errors import DatasetError


def tu(folder: Path, name: str = "DS", **parts: str) -> Path:
    """A folder of two graphs, a path of three nodes and a pair."""
    files = {
        "A": "1, 2\n2, 1\n2, 3\n3, 2\n4, 5\n5, 4\n",
        "graph_indicator": "1\n1\n1\n2\n2\n",
        "graph_labels": "7\n-3\n",
    } | parts
    folder.mkdir(parents=True, exist_ok=True)
    for part, content in files.items():
        (folder / f"{name}_{part}.txt").write_text(content, encoding="utf-8")
    return folder


def pairs(graphs: GraphSet) -> list[tuple[int, int]]:
    """The edges as (source, target) through the whole set, in the order in which they are kept."""
    first = torch.repeat_interleave(graphs.ptr[:-1], graphs.ptr.diff())
    target = torch.repeat_interleave(torch.arange(graphs.num_nodes), graphs.edge_ptr.diff())
    return list(zip((graphs.edge_index + first[target]).tolist(), target.tolist(), strict=True))


# ---- loops and repeats --------------------------------------------------------------------------

TWICE = "1, 2\n2, 1\n2, 3\n3, 2\n4, 5\n5, 4\n" * 2 + "1, 1\n4, 4\n4, 4\n"


@pytest.fixture(scope="module")
def pyg_tu() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.io.tu")


def test_tu_edges_are_those_of_pyg(tmp_path: Path, pyg_tu: ModuleType) -> None:
    folder = tu(tmp_path / "DS", A=TWICE, node_labels="0\n1\n2\n0\n1\n")
    data, _, _ = pyg_tu.read_tu_data(str(folder), "DS")
    graphs = read_tu(folder)
    check_graph_set(graphs)
    assert pairs(graphs) == [(1, 0), (0, 1), (2, 1), (1, 2), (4, 3), (3, 4)]
    # PyG's ids count within a graph.
    first = torch.tensor([0, 0, 0, 0, 3, 3])
    assert sorted(pairs(graphs)) == [tuple(edge) for edge in (data.edge_index + first).t().tolist()]
    assert graphs.edge_ptr.diff().tolist() == [1, 2, 1, 1, 1]
    assert graphs.notes == ("3 self loops dropped", "6 repeated edges merged")
    assert "note: 3 self loops dropped; 6 repeated edges merged" in graphs.describe()


def test_loops_and_repeats_are_kept_by_request(tmp_path: Path) -> None:
    folder = tu(tmp_path, A=TWICE)
    loops = read_tu(folder, keep_loops=True)
    assert loops.edge_ptr.diff().tolist() == [2, 2, 1, 2, 1]
    assert loops.notes == ("3 self loops kept", "7 repeated edges merged")
    repeats = read_tu(folder, keep_repeats=True)
    assert repeats.edge_ptr.diff().tolist() == [2, 4, 2, 2, 2]
    assert repeats.notes == ("3 self loops dropped", "6 repeated edges kept")
    both = read_tu(folder, keep_loops=True, keep_repeats=True)
    assert both.num_edges == 15


def test_features_of_repeated_edges(tmp_path: Path) -> None:
    labels = "".join(f"{label}\n" for label in [5, 5, 6, 6, 5, 5] * 2 + [9, 9, 9])
    graphs = read_tu(tu(tmp_path, A=TWICE, edge_labels=labels))
    assert graphs.edge_features is not None
    assert graphs.edge_features.tolist() == [
        [1, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 1, 0],
        [1, 0, 0],
        [1, 0, 0],
    ]


def test_lists_of_data_keep_what_they_hold(pyg_data: ModuleType) -> None:
    edges = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 1]])
    item = pyg_data.Data(edge_index=edges, num_nodes=2, y=torch.tensor([1]))
    graphs = from_pyg([item])
    assert (graphs.num_edges, graphs.notes) == (4, ("1 self loop kept", "1 repeated edge kept"))
    simple = from_pyg([item], keep_loops=False, keep_repeats=False)
    assert pairs(simple) == [(1, 0), (0, 1)]


def test_pairs_in_both_directions_are_not_doubled(tmp_path: Path) -> None:
    path = tmp_path / "both.npz"
    edges = np.array([[0, 1], [1, 0], [1, 2], [2, 1], [0, 1]])
    values = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    np.savez(path, edges=edges, edge_attr=values, x=np.eye(3), y=np.array([0, 1, 0]))
    graphs = read_npz(path)
    assert pairs(graphs) == [(1, 0), (0, 1), (2, 1), (1, 2)]
    assert graphs.edge_features is not None
    assert graphs.edge_features[:, 0].tolist() == [2, 1, 4, 3]  # each as it is listed first
    assert graphs.notes == ("6 repeated edges merged",)
    assert read_npz(path, keep_repeats=True).num_edges == 10


# ---- features -----------------------------------------------------------------------------------


def test_attributes_are_not_lost_beside_labels(tmp_path: Path, pyg_tu: ModuleType) -> None:
    folder = tu(
        tmp_path,
        node_labels="0\n1\n0\n0\n1\n",
        node_attributes="1\n2\n3\n4\n5.5\n",
        edge_labels="3\n3\n4\n4\n4\n4\n",
        edge_attributes="1\n1\n2\n2\n3\n3\n",
    )
    data, _, _ = pyg_tu.read_tu_data(str(folder), "DS")
    graphs = read_tu(folder)
    assert graphs.features == "node attributes and one-hot labels"
    assert torch.equal(graphs.x, data.x)
    assert graphs.edge_features is not None
    # PyG's edges are in the order of their sources, and all edges are the same both ways.
    assert torch.equal(graphs.edge_features, data.edge_attr)
    assert read_tu(folder, features="labels").num_features == 2
    assert read_tu(folder, features="attributes").num_features == 1
    assert read_tu(folder, edge_features="labels").num_edge_features == 2
    # A label that all edges have says nothing.
    assert read_tu(tu(tmp_path, edge_labels="3\n" * 6)).num_edge_features == 1


def test_the_same_input_in_every_graph_is_told(tmp_path: Path) -> None:
    two = {"A": "1, 2\n2, 1\n3, 4\n4, 3\n", "graph_indicator": "1\n1\n2\n2\n"}
    folder = tu(tmp_path, **two, node_labels="0\n1\n0\n1\n", node_attributes="1\n2\n1\n3\n")
    assert not read_tu(folder).same_inputs
    blind = read_tu(folder, features="labels")
    assert blind.same_inputs
    assert "ALL 2 GRAPHS HAVE THE SAME INPUT" in blind.describe()
    with_edges = tu(tmp_path, **two, edge_labels="0\n0\n1\n1\n")
    assert not read_tu(with_edges, features="labels").same_inputs
    assert read_tu(with_edges, features="labels", edge_features="none").same_inputs
    assert not read_tu(tu(tmp_path / "other"), features="constant").same_inputs
    assert not read_tu(folder).subset([0]).same_inputs


def test_x_without_columns(pyg_data: ModuleType) -> None:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    item = pyg_data.Data(
        x=torch.empty(3, 0), edge_attr=torch.empty(4, 0), edge_index=edges, y=torch.tensor([0])
    )
    graphs = from_pyg([item])
    assert (graphs.features, graphs.x.tolist()) == ("one-hot degree", [[1, 0], [0, 1], [1, 0]])
    assert graphs.edge_features is None

    class Hiding(list[Any]):
        num_node_attributes = 4
        num_edge_attributes = 1

    assert from_pyg(Hiding([item])).notes == (
        "x has no columns, but the data set has 4 node attributes: TUDataset(…, "
        "use_node_attr=True) gives them",
        "edge_attr has no columns, but the data set has 1 edge attribute: TUDataset(…, "
        "use_edge_attr=True) gives them",
    )
    with pytest.raises(DatasetError, match="no node labels; it has the edges alone"):
        from_pyg([item], features="labels")


def test_floats_that_are_one_hot_are_labels(pyg_data: ModuleType) -> None:
    edges = torch.tensor([[0, 1], [1, 0]])
    x = torch.tensor([[0.0, 0, 1], [1, 0, 0]])
    item = pyg_data.Data(x=x, edge_attr=x[:, [0, 2]], edge_index=edges, y=torch.tensor([0]))
    for features in ("auto", "labels"):
        graphs = from_pyg([item], features=features)
        assert graphs.features == "one-hot node labels"
        assert torch.equal(graphs.x, x)  # a column that nobody has stays
        assert "one-hot edge labels (2 columns)" in graphs.describe()
    given = from_pyg([item], features="attributes")
    assert (given.features, given.fingerprint) == ("node attributes", graphs.fingerprint)
    for other in (torch.ones(2, 1), torch.tensor([[1.0, 1], [0, 1]]), x * 2):
        assert from_pyg([item.clone().update({"x": other})]).features == "node attributes"


# ---- empty graphs and rare classes --------------------------------------------------------------


def test_empty_graphs(tmp_path: Path, pyg_data: ModuleType) -> None:
    """Graphs 1, 3 and 6 of six have no node, as 651 of Fingerprint's have none."""
    folder = tu(
        tmp_path,
        A="1, 2\n2, 1\n",
        graph_indicator="2\n2\n4\n5\n5\n",
        graph_labels="1\n2\n3\n4\n2\n4\n",
    )
    with pytest.raises(
        DatasetError, match=r"'DS': 3 of 6 graphs have no nodes \(1, 3, 6\); drop_empty .--drop-"
    ):
        read_tu(folder)
    graphs = read_tu(folder, drop_empty=True)
    check_graph_set(graphs)
    assert graphs.ptr.tolist() == [0, 2, 3, 5]
    assert [graphs.class_names[y] for y in graphs.y.tolist()] == ["2", "4", "2"]
    assert graphs.notes == ("3 of 6 graphs left out, for they have no nodes",)

    text = tmp_path / "text.txt"
    text.write_text("3\n0 5\n2 6\n0 1 1\n0 1 0\n0 6\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"2 of 3 graphs have no nodes \(1, 3\)"):
        load_dataset(text)
    assert load_dataset(text, drop_empty=True).class_names == ("6",)

    path = tmp_path / "empty.npz"
    np.savez(
        path,
        node_ptr=[0, 0, 2, 2],
        edge_ptr=[0, 0, 2, 2],
        edge_index=[[0, 1], [1, 0]],
        y=[0.5, 1.5, 2.5],
        split=[0, 1, 2],
    )
    packed = read_npz(path, drop_empty=True)
    assert packed.y.tolist() == [[1.5]]
    assert packed.split is not None
    assert packed.split.tolist() == [1]

    def data(nodes: int, y: int) -> Any:
        return pyg_data.Data(
            edge_index=torch.empty(2, 0).long(), num_nodes=nodes, y=torch.tensor([y])
        )

    items = [None, data(2, 0), None, data(0, 1), data(1, 2)]
    with pytest.raises(DatasetError, match=r"2 of 5 items are None \(0, 2\), expected graphs; dr"):
        from_pyg(items)
    listed = from_pyg(items, drop_empty=True)
    assert listed.class_names == ("0", "2")
    assert listed.notes == (
        "2 of 5 items left out, for they are None",
        "1 of 3 graphs left out, for they have no nodes",
    )
    with pytest.raises(DatasetError, match="all 2 items are None"):
        from_pyg([None, None], drop_empty=True)
    with pytest.raises(DatasetError, match="no graph has any nodes"):
        from_pyg([data(0, 1)], drop_empty=True)


def rare(folder: Path, classes: str) -> Path:
    """Graphs of one node each, of some classes."""
    labels = classes.split()
    return tu(
        folder,
        A="",
        graph_indicator="".join(f"{n + 1}\n" for n in range(len(labels))),
        graph_labels="\n".join(labels) + "\n",
        node_labels="0\n" + "1\n" * (len(labels) - 1),
    )


def test_rare_classes_have_the_names_of_the_file(tmp_path: Path) -> None:
    graphs = read_tu(rare(tmp_path, "5 5 5 5 11 12 12 14"))
    for folds in (2, 3):
        with pytest.raises(ValueError, match="class 11 has 1") as caught:
            split_items(graphs, SplitConfig(kind="fold", folds=folds))
        also_few = "" if folds == 2 else "class 12 has 2, "
        few = f"class 11 has 1, {also_few}class 14 has 1"
        # With three folds one class alone would be left.
        also = " or the other classes alone (--drop-rare 2)" if folds == 2 else ""
        assert str(caught.value) == (
            f"{folds} folds need {folds} or more members of every class, and {few}: ask "
            f"for a random split (--protocol split --split random){also}"
        )
    # Fewer folds are advised only where they help.
    with pytest.raises(ValueError, match="class 1 has 2: ask for at most 2 folds or a random"):
        stratified_folds([0, 0, 0, 1, 1], 3, 0)
    kept = read_tu(rare(tmp_path, "5 5 5 5 11 12 12 14"), drop_rare=2)
    check_graph_set(kept)
    assert kept.class_names == ("5", "12")
    assert kept.y.tolist() == [0, 0, 0, 0, -1, 1, 1, -1]
    assert kept.notes == (
        "2 classes of fewer than 2 graphs left out (11, 14): 2 graphs without a target",
    )
    split = split_items(kept, SplitConfig(kind="fold", folds=2))
    every = torch.cat((split.train, split.validation, split.test))
    assert sorted(every.tolist()) == [0, 1, 2, 3, 5, 6]
    with pytest.raises(DatasetError, match="no class has 9 graphs or more"):
        read_tu(rare(tmp_path, "5 5 6"), drop_rare=9)
    for wrong in ({"keep_loops": "no"}, {"drop_empty": None}, {"keep_repeats": 1}):
        with pytest.raises(ValueError, match=r"(keep|drop)_[a-z]+ is .*, expected True or False"):
            read_tu(tmp_path, **wrong)
    with pytest.raises(ValueError, match="drop_rare is -1, expected an integer ≥ 0"):
        read_tu(tmp_path, drop_rare=-1)


# ---- files of other kinds -----------------------------------------------------------------------


def saved_by_torch(path: Path) -> None:
    torch.save({"x": torch.ones(2)}, path)


def a_zip_of_text(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("DS/DS_A.txt", "1, 2\n")


@pytest.mark.parametrize(
    ("name", "content", "seems"),
    [
        ("mols.txt", b"smiles,y\nCCO,1\n", "a table, whose first line is 'smiles,y'; make it"),
        (
            "mols.gz",
            gzip.compress(b"smiles,y\nCCO,1\n", mtime=0),
            "packed by gzip, and inside a table",
        ),
        ("mols.smi", b"CCO 1\n", "a list of SMILES; make it a table with a header"),
        ("graphs.json", b'{"nodes": []}', "JSON; read it in a function"),
        ("graphs", b"\n [1, 2]", "JSON; read it"),
        ("graphs.xml", b"<?xml version='1.0'?><graphml/>", "GraphML or other XML; read it"),
        ("graphs.gml", b"graph [\n node [", "GML; read it"),
        ("graphs.dot", b"digraph G { a -> b }", "a DOT file; read it"),
        ("graphs.pq", b"PAR1\x15\x04", "a Parquet table; read it"),
        ("graphs.txt", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("graphs.npz", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("graphs.npz", b"<!DOCTYPE html><html>404", "a web page, as of a download that failed"),
        ("graphs.pt", saved_by_torch, "a file of torch.save; load it in a function"),
        ("graphs.pkl", b"\x80\x04\x95\x00", "a pickle; read it"),
        ("graphs.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file; read it"),
        ("DS.zip", a_zip_of_text, "a zip archive of 1 files; unpack it"),
        ("DS.tar.bz2", b"BZh91AY", "packed by bzip2; unpack it"),
        ("readme.txt", b"This is text.\n", "text that begins with 'This is text.'; read it"),
        ("numbers.bin", b"\x01\x00\x00\x00", "no text; read it"),
    ],
)
def test_what_a_file_seems_to_be(
    tmp_path: Path, name: str, content: bytes | Callable[[Path], None], seems: str
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    with pytest.raises(DatasetError) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: seems to be ")
    assert seems in message
    assert message.endswith(".npz, a powerful-gnns text file (.gz or not), or module:factory)")
    assert message.isprintable()


# ---- public layouts of .npz ---------------------------------------------------------------------


def test_heterophilous_sets(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    part = draw.permuted([[0, 0, 1, 1, 2, 2]] * 10, axis=1)  # (splits, nodes)
    path = tmp_path / "roman_empire.npz"
    x = draw.normal(size=(6, 4)).astype(np.float32)
    np.savez(
        path,
        node_features=x,
        node_labels=np.array([0, 1, 2, 0, 1, 2]),
        edges=np.array([[0, 1], [2, 1], [3, 4]]),
        train_masks=part == 0,
        val_masks=part == 1,
        test_masks=part == 2,
    )
    graphs = read_npz(path)
    check_graph_set(graphs)
    assert (graphs.name, graphs.task.level, graphs.num_classes) == ("roman_empire", "node", 3)
    assert torch.equal(graphs.x, torch.from_numpy(x))
    assert pairs(graphs) == [(1, 0), (0, 1), (2, 1), (1, 2), (4, 3), (3, 4)]
    assert graphs.num_splits == 10
    assert graphs.split is not None
    assert np.array_equal(graphs.split.numpy(), part.T)
    assert "given (10 splits, the first: " in graphs.describe()
    for fold in range(10):
        split = split_items(graphs, SplitConfig(kind="given", folds=10, fold=fold))
        for ids, number in ((split.train, 0), (split.validation, 1), (split.test, 2)):
            assert ids.tolist() == np.flatnonzero(part[fold] == number).tolist()
    with pytest.raises(DatasetError, match="has 10 given splits: ask for folds 10 and the fold"):
        split_items(graphs, SplitConfig(kind="given"))


@pytest.mark.parametrize(
    ("edges", "right"),
    [
        # One edge has its way back, two have not: directed, as in `chameleon_directed.npz`.
        ([[0, 1], [1, 0], [2, 1], [2, 2], [0, 3]], [(1, 0), (0, 1), (2, 1), (2, 2), (0, 3)]),
        # All have it: undirected.
        ([[0, 1], [1, 0], [2, 1], [1, 2]], [(1, 0), (0, 1), (2, 1), (1, 2)]),
        ([[0, 1], [2, 1], [0, 1]], [(1, 0), (0, 1), (2, 1), (1, 2)]),
    ],
)
def test_heterophilous_sets_with_directions(tmp_path: Path, edges: Any, right: Any) -> None:
    path = tmp_path / "chameleon_directed.npz"
    np.savez(
        path, node_features=np.eye(4), node_labels=np.array([0, 1, 0, 1]), edges=np.array(edges)
    )
    graphs = read_npz(path)
    check_graph_set(graphs)
    assert sorted(pairs(graphs)) == sorted(right)
    directed = len(right) != 4
    assert graphs.symmetric is not directed
    assert any("edges are directed" in note for note in graphs.notes) is directed


def test_one_row_of_masks_is_one_split(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    part = np.array([[0, 1, 2]])
    np.savez(
        path,
        node_features=np.eye(3),
        node_labels=np.array([0, 1, 0]),
        edges=np.array([[0, 1]]),
        train_masks=part == 0,
        val_masks=part == 1,
        test_masks=part == 2,
    )
    graphs = read_npz(path)
    assert graphs.split is not None
    assert graphs.split.tolist() == [0, 1, 2]


def test_sparse_matrices_of_gnn_benchmark(tmp_path: Path) -> None:
    sparse = importlib.import_module("scipy.sparse")
    adjacency = sparse.csr_matrix(
        np.array([[1, 2, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32)
    )
    attributes = sparse.csr_matrix(np.array([[0, 0.5, 0], [3, 0, 0], [0, 0, 0], [1, 0, 1]]))
    path = tmp_path / "cora_ml.npz"
    arrays = {
        f"{name}_{part}": getattr(matrix, part)
        for name, matrix in (("adj", adjacency), ("attr", attributes))
        for part in ("data", "indices", "indptr", "shape")
    }
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(path, **arrays, labels=np.array([2, 0, 2, 1]), idx_to_node=objects)
    graphs = read_npz(path)
    check_graph_set(graphs)
    # As PyG's reader: loops dropped, both directions, ones for whatever is not 0.
    assert pairs(graphs) == [(1, 0), (0, 1), (2, 1), (1, 2)]
    assert graphs.x.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0], [1, 0, 1]]
    assert (graphs.y.tolist(), graphs.task.level) == ([2, 0, 2, 1], "node")
    assert graphs.notes == ("edges made undirected", "1 self loop dropped")
    assert read_npz(path, keep_loops=True).num_edges == 5
    dense = {name: array for name, array in arrays.items() if not name.startswith("attr")}
    np.savez(path, **dense, attr_matrix=np.ones((4, 2)) * 0.5, labels=np.array([2, 0, 2, 1]))
    assert read_npz(path).x.tolist() == [[0.5, 0.5]] * 4
    np.savez(path, **arrays | {"adj_indices": np.array([0, 9, 0, 1])}, labels=np.zeros(4, int))
    with pytest.raises(DatasetError, match="array adj_indices: holds 9, expected 0 … 3"):
        read_npz(path)


def test_masks_of_several_columns_are_several_splits(pyg_data: ModuleType) -> None:
    part = torch.tensor([[0, 2], [1, 0], [2, 1], [-1, 0]])
    data = pyg_data.Data(
        edge_index=torch.tensor([[0, 1], [1, 0]]),
        x=torch.ones(4, 2),
        y=torch.arange(4) % 2,
        train_mask=part == 0,
        val_mask=part == 1,
        test_mask=part == 2,
    )
    graphs = from_pyg(data)
    assert graphs.split is not None
    assert torch.equal(graphs.split, part.to(torch.int8))
    # As in WikiCS: one mask for all splits beside others.
    data.test_mask = torch.tensor([False, False, False, True])
    data.train_mask = torch.tensor([[1, 0], [0, 1], [0, 0], [0, 0]]).bool()
    data.val_mask = torch.tensor([[0, 1], [1, 0], [0, 0], [0, 0]]).bool()
    shared = from_pyg(data).split
    assert shared is not None
    assert shared.tolist() == [[0, 1], [1, 0], [-1, -1], [2, 2]]
    data.val_mask = torch.zeros(4, 3).bool()
    with pytest.raises(DatasetError, match="masks of 2, 3, 1 splits for training, validation and"):
        from_pyg(data)


# ---- targets in words ---------------------------------------------------------------------------


def with_y(folder: Path, y: Any, **options: Any) -> GraphSet:
    y = np.array(y)
    nodes = np.arange(len(y) + 1)
    np.savez(
        folder / "y.npz",
        node_ptr=nodes,
        edge_ptr=nodes * 0,
        edge_index=np.zeros((2, 0), int),
        y=y,
        x=np.arange(len(y)),
    )
    return read_npz(folder / "y.npz", **options)


def target_line(graphs: GraphSet) -> str:
    return graphs.describe().splitlines()[0]


def test_shares_of_each_question(tmp_path: Path) -> None:
    yes = np.zeros((20, 2))
    yes[:19, 0] = yes[:1, 1] = 1
    yes[1, 1] = np.nan
    assert target_line(with_y(tmp_path, yes)) == (
        "task: graph classification, 2 questions of yes or no (target 1: 95.0% yes, target 2: 5.3% "
        "yes, 2.5% of the answers missing)"
    )
    many = np.eye(20)[:, :12]
    many[:, 3] = 1
    assert "from 5.0% yes in target 1 to 100.0% in target 4" in target_line(with_y(tmp_path, many))
    numbers = target_line(with_y(tmp_path, [[1.5, 1e6], [2.5, 3e6]]))
    assert "target 1: mean 2, standard deviation 0.5, target 2: mean 2e+06, st" in numbers


def test_the_frequent_class_stands_beside(tmp_path: Path) -> None:
    line = target_line(with_y(tmp_path, [4, 4, 4, 9]))
    assert line == "task: graph classification, 2 classes (4: 3, 9: 1; most frequent: 4, 75.0%)"


def test_texts_are_classes(tmp_path: Path, pyg_data: ModuleType) -> None:
    graphs = with_y(tmp_path, ["toxic", "safe", "", "toxic"])
    assert graphs.class_names == ("safe", "toxic")
    assert graphs.y.tolist() == [1, 0, -1, 1]
    edges = torch.empty(2, 0).long()
    items = [pyg_data.Data(edge_index=edges, num_nodes=1, y=y) for y in ("b", "a", "b")]
    assert (from_pyg(items).class_names, from_pyg(items).y.tolist()) == (("a", "b"), [1, 0, 1])
    with pytest.raises(DatasetError, match="y holds texts, which are classes, not regression"):
        from_pyg(items, task="regression")
    items[1].y = {"a": 1}
    with pytest.raises(DatasetError, match="graph 1: y is dict, expected numbers or texts"):
        from_pyg(items)


def test_minus_one_among_answers_is_asked_about(tmp_path: Path) -> None:
    answers = [[0, 1], [-1, 1], [1, 0]]
    for y in (answers, np.array(answers, dtype=float), [0.0, -1.0, 1.0]):
        with pytest.raises(DatasetError, match="y holds only -1, 0 and 1: ask for task binary, wh"):
            with_y(tmp_path, y)
    graphs = with_y(tmp_path, answers, task="binary")
    assert graphs.y.nan_to_num(9).tolist() == [[0, 1], [9, 1], [1, 0]]
    assert graphs.notes == ("-1 says that an answer is missing",)
    assert with_y(tmp_path, answers, task="regression").y.tolist() == answers
    # A class each, which is said; no and yes, where there are two values only.
    three = with_y(tmp_path, [0, -1, 1])
    assert three.class_names == ("-1", "0", "1")
    assert three.notes == ("-1 is a class of its own; task binary takes it for a missing answer",)
    assert with_y(tmp_path, [1, -1, 1]).notes == ()
    assert with_y(tmp_path, [1, -1, 1], task="binary").y.tolist() == [[1], [0], [1]]


def test_many_labels_are_told(tmp_path: Path) -> None:
    """As DBLP_v1, of whose 41325 labels 28167 are seen once."""
    labels = [*range(600), 0, 1, 2]
    graphs = read_tu(
        tu(
            tmp_path,
            A="",
            graph_indicator="1\n" * 600 + "2\n" * 3,
            node_labels="".join(f"{label}\n" for label in labels),
        )
    )
    assert "note: 600 columns of node features, 597 of them of one node each" in graphs.describe()
    assert len(random_graphs(4, seed=1).describe().splitlines()) == 2
