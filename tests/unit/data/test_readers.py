"""Every reader on the same graphs, and the error for everything that can be wrong in a file."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from graphnorms.data import (
    GraphSet,
    embedded_names,
    from_pyg,
    load_dataset,
    read_powerful_gnns,
    read_tu,
)
from graphnorms.data.readers.embedded import read_embedded
from graphnorms.errors import DatasetError


def assert_same_graphs(graphs: GraphSet, mutag: GraphSet) -> None:
    """The same graphs in the same order, whatever their classes are numbered."""
    for field in ("x", "ptr", "edge_ptr", "edge_index"):
        assert torch.equal(getattr(graphs, field), getattr(mutag, field)), field
    assert graphs.symmetric
    assert names(graphs) == names(mutag)


def names(graphs: GraphSet) -> list[str]:
    return [graphs.class_names[y] for y in graphs.y.tolist()]


# ---- the same graphs ------------------------------------------------------------------------


def test_embedded_mutag(mutag: GraphSet) -> None:
    assert embedded_names() == ("MUTAG", "nci5k", "clusters")
    assert mutag.name == "MUTAG"
    assert (len(mutag), mutag.num_nodes, mutag.num_edges) == (188, 3371, 2 * 3721)
    assert (mutag.num_features, mutag.num_classes) == (7, 2)
    assert mutag.class_counts == (63, 125)
    assert mutag.class_names == ("-1", "1")
    assert mutag.features == "one-hot node labels"
    assert mutag.symmetric
    # Carbon, nitrogen, oxygen, fluorine, iodine, chlorine, bromine.
    assert mutag.x.sum(0).tolist() == [2395, 345, 593, 12, 1, 23, 2]
    # The first molecule has 17 atoms in a chain of three rings.
    assert mutag.ptr[:2].tolist() == [0, 17]
    assert mutag.edge_index[: mutag.edge_ptr[4]].tolist() == [1, 5, 0, 2, 1, 3, 2, 4, 9]
    # Any change of the file, or of what is made of it, changes what was measured on it.
    assert mutag.fingerprint == "4977a79ae47937fb"


def test_embedded_mutag_in_any_case(mutag: GraphSet) -> None:
    assert load_dataset("mutag").fingerprint == mutag.fingerprint
    assert load_dataset("Mutag").name == "MUTAG"


def test_tu_reads_mutag(tu_folder: Path, mutag: GraphSet) -> None:
    graphs = read_tu(tu_folder)
    assert_same_graphs(graphs, mutag)
    assert graphs.name == "MUTAG"
    assert graphs.fingerprint == mutag.fingerprint


def test_tu_reads_the_folder_that_pyg_leaves(tu_folder: Path, mutag: GraphSet) -> None:
    (tu_folder.parent / "root").mkdir()
    tu_folder.rename(tu_folder.parent / "root" / "raw")
    assert read_tu(tu_folder.parent / "root").fingerprint == mutag.fingerprint
    assert load_dataset(tu_folder.parent / "root").fingerprint == mutag.fingerprint


def test_powerful_gnns_reads_mutag(text_file: Path, gzip_file: Path, mutag: GraphSet) -> None:
    plain, packed = read_powerful_gnns(text_file), read_powerful_gnns(gzip_file)
    assert_same_graphs(plain, mutag)
    assert plain.name == packed.name == "MUTAG"
    assert plain.fingerprint == packed.fingerprint
    # By first appearance: the first molecule is mutagenic.
    assert plain.class_names == ("1", "-1")
    assert plain.class_counts == (125, 63)


def test_gzip_is_told_by_its_content(gzip_file: Path, mutag: GraphSet) -> None:
    assert_same_graphs(load_dataset(gzip_file.rename(gzip_file.with_name("MUTAG.data"))), mutag)


def test_pyg_reads_mutag(
    mutag: GraphSet, take_apart: Callable[..., Any], pyg_data: ModuleType
) -> None:
    items = [
        pyg_data.Data(x=x, edge_index=torch.tensor(edges[::-1]).t(), y=torch.tensor([y]))
        for _, edges, x, y in take_apart(mutag)
    ]
    graphs = from_pyg(items, name="mine")
    assert graphs.name == "mine"
    assert graphs.features == "one-hot node labels"
    assert graphs.class_names == ("0", "1")
    assert torch.equal(graphs.y, mutag.y)
    assert graphs.fingerprint == mutag.fingerprint


def test_load_dataset_finds_the_reader(
    tu_folder: Path, text_file: Path, gzip_file: Path, mutag: GraphSet
) -> None:
    for spec in (tu_folder, str(tu_folder), text_file, gzip_file):
        assert_same_graphs(load_dataset(spec), mutag)


# ---- TU -------------------------------------------------------------------------------------


def write(folder: Path, name: str = "DS", **parts: str) -> Path:
    """A TU folder of two graphs, a path of three nodes and one node, with some parts changed."""
    files = {
        "A": "1, 2\n2, 1\n2,3\n3,2\n",
        "graph_indicator": "1\n1\n1\n2\n",
        "graph_labels": "7\n-3\n",
    } | parts
    folder.mkdir(exist_ok=True)
    for part, text in files.items():
        (folder / f"{name}_{part}.txt").write_text(text)
    return folder


def test_tu_without_labels_takes_the_degree(tmp_path: Path) -> None:
    graphs = read_tu(write(tmp_path / "ds"))
    assert graphs.features == "one-hot degree"
    # Degrees 1, 2, 1 and 0: a column for each of 0, 1, 2.
    assert graphs.x.tolist() == [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert graphs.class_names == ("-3", "7")
    assert graphs.y.tolist() == [1, 0]


def test_tu_edges_keep_their_direction(tmp_path: Path) -> None:
    graphs = read_tu(write(tmp_path / "ds", A="1, 2\n3, 2\n"))
    assert not graphs.symmetric
    assert graphs.edge_ptr.tolist() == [0, 0, 2, 2, 2]
    assert graphs.edge_index.tolist() == [0, 2]  # 1→2 and 3→2
    assert graphs.transpose_ptr.tolist() == [0, 1, 1, 2, 2]
    assert graphs.transpose_index.tolist() == [1, 1]


def test_tu_several_label_columns_and_attributes(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "ds",
        node_labels="0, 5\n3, 5\n0, 6\n0, 5\n",
        node_attributes="0.5, 1e2\n-1,2\n0,0\n 1 , 3\n",
        edge_labels="whatever",
    )
    labels = read_tu(folder, features="labels", edge_features="none")
    assert labels.features == "one-hot node labels"
    assert labels.x.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0]]
    attributes = read_tu(folder, features="attributes", edge_features="none")
    assert attributes.features == "node attributes"
    assert attributes.x.tolist() == [[0.5, 100], [-1, 2], [0, 0], [1, 3]]
    both = read_tu(folder, edge_features="none")
    assert both.features == "node attributes and one-hot labels"
    assert torch.equal(both.x, torch.cat((attributes.x, labels.x), 1))


def test_tu_without_edges_and_with_windows_line_ends(tmp_path: Path) -> None:
    graphs = read_tu(write(tmp_path / "ds", A="", graph_indicator="1\r\n1\r\n1\r\n2\r\n\r\n"))
    assert graphs.num_edges == 0
    assert graphs.ptr.tolist() == [0, 3, 4]
    assert graphs.features == "constant"  # every degree is 0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"A": "1, 2\n2, 1\n1, 9\n"}, "DS_A.txt, line 3: an edge to node 9, which does not exist"),
        ({"A": "1, 2\n\n0, 1\n"}, r"DS_A.txt, line 3: an edge to node 0, .*: nodes are 1 … 4"),
        ({"A": "1, 2\n3, 4\n"}, "line 2: an edge between two graphs: node 3 is in graph 1, node 4"),
        ({"A": "1, 2\n2; 1\n"}, r"DS_A.txt, line 2: '2;' is not a finite number"),
        ({"A": "1, 2\n1_0, 1\n"}, r"DS_A.txt, line 2: '1_0' is not a finite number"),
        ({"A": "1, 2\n2, 1, 1\n"}, "DS_A.txt, line 2: 3 numbers, expected 2: an edge"),
        ({"A": "1, 2\n2\n"}, "DS_A.txt, line 2: 1 number, expected 2: an edge"),
        ({"A": "1, 2\n2, 1.5\n"}, "DS_A.txt, line 2: 1.5 is not an integer, expected a node id"),
        ({"graph_indicator": "1\n1\n2\n1\n"}, "indicator.txt, line 4: graph 1 after graph 2: the"),
        (
            {"graph_indicator": "1\n1\n3\n3\n"},
            "indicator.txt, line 3: graph 3, but DS_graph_labels.txt has 2 lines, one for each gr",
        ),
        ({"graph_indicator": "0\n0\n1\n1\n"}, "line 1: the first graph is 0, expected 1"),
        ({"graph_indicator": "\n"}, "graph_indicator.txt: the file is empty"),
        ({"graph_indicator": "1\n1 1\n"}, "graph_indicator.txt, line 2: 2 numbers, expected 1"),
        (
            {"graph_labels": "1\n1\n1\n"},
            "'DS': 1 of 3 graphs has no nodes .3.; drop_empty .--drop-",
        ),
        (
            {"graph_labels": "1\n"},
            "indicator.txt, line 4: graph 2, but DS_graph_labels.txt has 1 line, one for",
        ),
        ({"graph_labels": ""}, "line 1: graph 1, but DS_graph_labels.txt has 0 lines"),
        ({"graph_labels": "1\n0.5\n"}, "line 2: 0.5 is not an integer, expected the class of"),
        ({"graph_labels": "1\nmutagenic\n"}, "graph_labels.txt, line 2: 'mutagenic' is not a"),
        (
            {"node_labels": "1\n1\n1\n"},
            "node_labels.txt, line 3: 3 lines, expected 4, one for each n",
        ),
        ({"node_labels": "1\n1\n1\n1, 2\n"}, "node_labels.txt, line 4: 2 numbers, expected 1"),
        ({"node_labels": "1\n1\n1\n1.5\n"}, "node_labels.txt, line 4: 1.5 is not an integer"),
        (
            {"node_attributes": "1\n1\nnan\n1"},
            "attributes.txt, line 3: 'nan' is not a finite number",
        ),
        ({"node_attributes": "1\n1\n1\n1\n1"}, "node_attributes.txt, line 5: 5 lines, expected 4"),
    ],
)
def test_tu_malformed(tmp_path: Path, parts: dict[str, str], message: str) -> None:
    folder = write(tmp_path / "ds", **parts)
    with pytest.raises(DatasetError, match=message) as caught:
        read_tu(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_tu_missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder; a folder in TU format has"):
        read_tu(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: the folder is empty; a folder in TU format"):
        read_tu(tmp_path / "empty")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="file: is a file, not a folder"):
        read_tu(tmp_path / "file")
    folder = write(tmp_path / "ds")
    (folder / "DS_graph_labels.txt").unlink()
    with pytest.raises(DatasetError, match=r"ds: missing file DS_graph_labels\.txt"):
        read_tu(folder)
    (folder / "DS_A.txt").unlink()
    with pytest.raises(DatasetError, match=r"ds: missing file NAME_A\.txt"):
        read_tu(folder)


def test_tu_several_sets_in_one_folder(tmp_path: Path) -> None:
    folder = write(write(tmp_path / "ds"), name="OTHER", A="")
    with pytest.raises(DatasetError, match=r"holds 2 data sets \(DS, OTHER\); say which"):
        read_tu(folder)
    assert read_tu(folder, name="OTHER").num_edges == 0
    assert read_tu(folder, name="DS").num_edges == 4
    with pytest.raises(DatasetError, match=r"missing file NO_A\.txt; the folder holds DS, OTHER"):
        read_tu(folder, name="NO")


# ---- powerful-gnns --------------------------------------------------------------------------

TEXT = """2
3 7
0 1 1
5 2 0 2
0 1 1
1 -3
5 0
"""


def test_powerful_gnns_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "two.txt"
    path.write_text(TEXT)
    graphs = read_powerful_gnns(path)
    assert (graphs.name, graphs.class_names) == ("two", ("7", "-3"))
    assert graphs.ptr.tolist() == [0, 3, 4]
    assert graphs.edge_ptr.tolist() == [0, 1, 3, 4, 4]
    assert graphs.edge_index.tolist() == [1, 0, 2, 1]
    assert graphs.x.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert read_powerful_gnns(path, name="other").name == "other"


def test_powerful_gnns_attributes_after_the_neighbours(tmp_path: Path) -> None:
    path = tmp_path / "two.txt"
    path.write_text("1\n2 0\n0 1 1 0.5 1\n0 1 0 -2 3\n")
    graphs = read_powerful_gnns(path)
    assert graphs.features == "node attributes"
    assert graphs.x.tolist() == [[0.5, 1], [-2, 3]]
    assert graphs.edge_index.tolist() == [1, 0]


def test_powerful_gnns_loops_and_parallel_edges(tmp_path: Path) -> None:
    path = tmp_path / "two.txt"
    path.write_text("1\n2 0\n0 3 1 1 0\n0 2 0 0\n")
    merged = read_powerful_gnns(path)  # as the GIN code does, by way of networkx
    assert merged.edge_index.tolist() == [0, 1, 0]
    assert merged.notes == ("1 self loop kept", "2 repeated edges merged")
    kept = read_powerful_gnns(path, keep_repeats=True)
    assert kept.edge_index.tolist() == [0, 1, 1, 0, 0]


def test_order_of_the_classes(tmp_path: Path) -> None:
    labels = [5, 9, 2, 9, 5]
    path = tmp_path / "five.txt"
    path.write_text("5\n" + "".join(f"1 {label}\n0 0\n" for label in labels))
    by_appearance = read_powerful_gnns(path)
    assert by_appearance.class_names == ("5", "9", "2")
    assert by_appearance.y.tolist() == [0, 1, 2, 1, 0]
    folder = write(
        tmp_path / "ds",
        A="",
        graph_indicator="1\n2\n3\n4\n5\n",
        graph_labels="".join(f"{label}\n" for label in labels),
    )
    ascending = read_tu(folder)
    assert ascending.class_names == ("2", "5", "9")
    assert ascending.y.tolist() == [1, 2, 0, 2, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"bad\.txt: the file is empty, expected the number of graphs"),
        ("two\n", "line 1: 'two' is not a finite number"),
        ("2 3\n", "line 1: expected the number of graphs, alone on the first line"),
        ("0\n", "line 1: expected the number of graphs"),
        ("1.5\n", "line 1: 1.5 is not an integer, expected the number of graphs"),
        (TEXT.replace("2\n3", "3\n3", 1), "line 7: the file ends after 2 graphs, expected 3 by"),
        (TEXT.replace("2\n3", "1\n3", 1), "line 6: expected the end of the file after 1 graph"),
        (TEXT.replace("1 -3", "2 -3"), "line 7: the file ends within graph 2 of 2: 1 of its 2 no"),
        (TEXT.replace("1 -3", "0 -3"), "line 7: expected the end of the file after 2 graphs"),
        (TEXT.replace("3 7", "3"), "line 2: 1 number, expected graph 1 as 'nodes label'"),
        (TEXT.replace("3 7", "2 7"), "line 5: 3 numbers, expected graph 2 as 'nodes label'"),
        (TEXT.replace("3 7", "3 7.5"), "line 2: 7.5 is not an integer, expected a graph's label"),
        (TEXT.replace("5 0\n", "5\n"), "line 7: expected a node: 'tag degree neighbour …'"),
        (TEXT.replace("5 0\n", "5.5 0\n"), "line 7: 5.5 is not an integer, expected a node's tag"),
        (TEXT.replace("5 0\n", "5 -1\n"), "line 7: degree -1, followed by 0 neighbours"),
        (TEXT.replace("5 2 0 2", "5 3 0 2"), "line 4: degree 3, followed by 2 neighbours"),
        (TEXT.replace("5 2 0 2", "5 2 0 3"), "line 4: an edge to node 3, which .* 0 … 2"),
        (TEXT.replace("5 2 0 2", "5 2 0 -1"), "line 4: an edge to node -1"),
        (TEXT.replace("5 2 0 2", "5 2 0 x"), "line 4: 'x' is not a finite number"),
        (
            TEXT.replace("5 2 0 2", "5 2 0 2 9"),
            "line 4: 1 number after the neighbours, and 0 at the",
        ),
        (
            TEXT.replace("5 2 0 2", "5 1 0"),
            r"line 5: node 2 lists node 1 once, but node 1 \(line 4\) lists node 2 never",
        ),
        (
            TEXT.replace("5 2 0 2", "5 3 0 2 2"),
            r"line 4: node 1 lists node 2 2 times, but node 2 \(line 5\) lists node 1 once",
        ),
    ],
)
def test_powerful_gnns_malformed(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message) as caught:
        read_powerful_gnns(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.txt: no such file"):
        read_powerful_gnns(tmp_path / "none.txt")
    with pytest.raises(DatasetError, match="cannot be read: Is a directory"):
        read_powerful_gnns(tmp_path)
    whole = gzip.compress(TEXT.encode())
    for name, data in {"cut.gz": whole[:-9], "spoilt.gz": whole[:12] + b"\xff" * 30}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetError, match=f"{name}: damaged gzip file"):
            read_powerful_gnns(tmp_path / name)
    (tmp_path / "image.txt").write_bytes(b"\x89PNG\r\n" + bytes(range(128, 256)))
    with pytest.raises(DatasetError, match=r"image\.txt, line 1: '�PNG' is not a finite number"):
        read_powerful_gnns(tmp_path / "image.txt")


# ---- PyG ------------------------------------------------------------------------------------


def data(pyg_data: ModuleType, **change: Any) -> Any:
    fields = {
        "x": torch.ones(2, 3),
        "edge_index": torch.tensor([[0], [1]]),
        "y": torch.tensor([0]),
    } | change
    return pyg_data.Data(**{name: value for name, value in fields.items() if value is not None})


def test_pyg_without_x_takes_the_degree(pyg_data: ModuleType) -> None:
    graphs = from_pyg([data(pyg_data, x=None, num_nodes=3)])
    assert graphs.features == "one-hot degree"
    assert graphs.x.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert not graphs.symmetric
    assert graphs.edge_index.tolist() == [0]  # 0→1: node 1 hears node 0
    assert graphs.edge_ptr.tolist() == [0, 0, 1, 1]


def test_pyg_x_of_one_dimension_and_of_integers(pyg_data: ModuleType) -> None:
    graphs = from_pyg(
        [data(pyg_data, x=torch.tensor([4, 5]), y=2), data(pyg_data, x=torch.ones(2))]
    )
    assert graphs.x.tolist() == [[4], [5], [1], [1]]
    assert graphs.x.dtype == torch.float32
    assert (graphs.class_names, graphs.y.tolist()) == (("0", "2"), [1, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": None}, "graph 1: no y, expected what is to be predicted"),
        ({"y": torch.tensor([0, 1])}, r"graph 1: y is of shape \(2,\), expected one number or"),
        ({"y": torch.tensor([[0, 1]])}, "graph 1: y has 2 targets, and graph 0 has 1"),
        ({"edge_attr": torch.ones(1, 2)}, "graph 1: edge_attr of 2 columns, and graph 0 has no ed"),
        ({"edge_attr": torch.ones(2, 2)}, "graph 1: edge_attr has 2 rows, expected 1"),
        ({"edge_index": None}, r"graph 1: no edge_index; give \(2, 0\) integers"),
        ({"edge_index": torch.tensor([0, 1])}, r"edge_index is torch.int64 of shape \(2,\)"),
        ({"edge_index": torch.zeros(2, 1)}, "graph 1: edge_index is torch.float32"),
        ({"edge_index": torch.tensor([[0], [2]])}, "graph 1: an edge to node 2, .* 0 … 1"),
        (
            {"x": torch.ones(0, 3), "edge_index": torch.empty(2, 0).long()},
            "1 of 2 graphs has no nodes .1.; drop_empty .--drop-",
        ),
        ({"x": torch.ones(0, 3)}, "graph 1: an edge, but no nodes"),
        ({"x": torch.ones(2, 3, 1)}, r"graph 1: x is of shape \(2, 3, 1\), expected a tensor"),
        (
            {"x": torch.tensor([[1, 2, float("inf")]] * 2)},
            "node 0 .from 0. of graph 1 holds inf in column 2",
        ),
        ({"x": torch.ones(2, 4)}, "graph 1: x of 4 columns, and graph 0 has x of 3 columns"),
        ({"x": None, "num_nodes": 2}, "graph 1: no x, and graph 0 has x of 3 columns"),
    ],
)
def test_pyg_malformed(pyg_data: ModuleType, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        from_pyg([data(pyg_data), data(pyg_data, **change)], name="mine")


def test_pyg_empty_list() -> None:
    with pytest.raises(DatasetError, match="the list of graphs is empty"):
        from_pyg([])


# ---- load_dataset ---------------------------------------------------------------------------


def test_load_dataset_knows_no_such_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DatasetError,
        match=r"'mutagg'; did you mean mutag\?$",
    ):
        load_dataset("mutagg")
    with pytest.raises(
        DatasetError,
        match=r"unknown data set 'qwxyz'; known: mutag, nci5k, clusters \(a data set is",
    ):
        load_dataset("qwxyz")
    for spec in ("./MUTAG", "nowhere/MUTAG", "MUTAG.txt"):
        with pytest.raises(DatasetError, match=f"'{re.escape(spec)}': no such file or folder"):
            load_dataset(spec)
    (tmp_path / "solubility.csv").touch()
    for spec, near in (("solubilty.csv", "no such file or folder"), ("solubility", "unknown")):
        with pytest.raises(DatasetError, match=rf"{near}.* did you mean solubility\.csv\?$"):
            load_dataset(spec)
    with pytest.raises(DatasetError, match="the name of the data set is empty"):
        load_dataset("")
    with pytest.raises(ValueError, match="unknown embedded data set 'mutagg'"):
        read_embedded("mutagg")


def test_a_file_of_a_tu_folder_is_none_of_its_own(tmp_path: Path) -> None:
    for part in ("A", "graph_indicator", "graph_labels"):
        (tmp_path / f"SET_{part}.txt").write_text("1, 2\n")
        if part != "A":
            with pytest.raises(DatasetError, match=f"SET_{part}.txt: one file of a folder in TU"):
                load_dataset(tmp_path / f"SET_{part}.txt")


def test_load_dataset_on_folders(tmp_path: Path, text_file: Path) -> None:
    with pytest.raises(DatasetError, match=r"if MUTAG\.txt is a powerful-gnns text file, give its"):
        load_dataset(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="the folder is empty"):
        load_dataset(tmp_path / "empty")


def test_a_name_wins_over_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutag: GraphSet
) -> None:
    write(tmp_path / "MUTAG")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("MUTAG").fingerprint == mutag.fingerprint
    assert len(load_dataset("./MUTAG")) == 2


def test_code_is_no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("import torch\n")
    for spec in ("mine.py", "mine"):
        with pytest.raises(DatasetError, match=r"is code, not data; name .*: mine:function"):
            load_dataset(spec)
