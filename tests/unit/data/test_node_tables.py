"""One graph from tables of its nodes and edges, and graphs of NetworkX and GraphML."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from graphnorms.data import from_networkx, load_dataset
from graphnorms.data.readers.read_options import Reading
from graphnorms.errors import DatasetError

NODES = """id,age,kind,weight,colour,split
n1,3,a,0.5,red,train
n2,4,b,1.5,blue,val
n3,3,a,2.0,red,test
n4,4,a,2.5,,
"""
EDGES = "source,target,length\nn1,n2,0.5\nn3,n2,1.5\nn4,n3,2.5\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "mine"
    home.mkdir()
    (home / "nodes.csv").write_text(NODES)
    (home / "edges.csv").write_text(EDGES)
    return home


def test_tables(folder: Path) -> None:
    graphs = load_dataset(folder, target="colour")
    assert graphs.name == "mine"
    assert graphs.edge_index.tolist() == [1, 0, 2, 1, 3, 2]
    assert graphs.symmetric
    assert graphs.class_names == ("blue", "red")
    assert graphs.y.tolist() == [1, 0, 1, -1]
    assert graphs.split is not None
    assert graphs.split.tolist() == [0, 1, 2, -1]
    assert graphs.edge_features is not None
    assert graphs.edge_features[:, 0].tolist() == [0.5, 0.5, 1.5, 1.5, 2.5, 2.5]
    # The attribute, then the labels 3 and 4, then a and b by their checksums.
    ages = [[1, 0], [0, 1], [1, 0], [0, 1]]
    order = sorted("ab", key=lambda text: zlib.crc32(text.encode()))
    kinds = [[float(text == each) for each in order] for text in "abaa"]
    weights = [[0.5], [1.5], [2.0], [2.5]]
    expected = [w + a + k for w, a, k in zip(weights, ages, kinds, strict=True)]
    assert graphs.x.tolist() == expected


def test_forms_of_tables_agree(folder: Path, tmp_path: Path) -> None:
    expected = load_dataset(folder, target="colour").fingerprint
    edges = str(folder / "edges.csv")
    assert load_dataset(folder / "nodes.csv", edges=edges, target="colour").fingerprint == expected
    both = EDGES + "n2,n1,0.5\nn2,n3,1.5\nn3,n4,2.5\n"
    (tmp_path / "both.tsv").write_text(both.replace(",", "\t").replace("source", "src"))
    (tmp_path / "both.tsv").write_text(both.replace("source,target", "from,to").replace(",", "\t"))
    again = load_dataset(folder / "nodes.csv", edges=str(tmp_path / "both.tsv"), target="colour")
    assert again.fingerprint == expected
    assert not again.notes or "merged" not in " ".join(again.notes)
    pandas = pytest.importorskip("pandas")
    for name in ("nodes", "edges"):
        frame = pandas.read_csv(folder / f"{name}.csv")
        frame.to_parquet(folder / f"{name}.parquet")
    parquet = load_dataset(
        folder / "nodes.parquet", edges=str(folder / "edges.parquet"), target="colour"
    )
    assert parquet.fingerprint == expected


def test_edges_in_one_direction(folder: Path) -> None:
    (folder / "edges.csv").write_text("source,target\nn1,n2\nn2,n1\nn3,n2\n")
    graphs = load_dataset(folder, target="colour")
    assert graphs.num_edges == 3
    assert "edges are directed" in " ".join(graphs.notes)


def test_faults_of_tables(folder: Path) -> None:
    for edges, message in (
        ("source,target\nn1,n9\n", "line 2: 1 edge with a target that is no node, the first 'n9'"),
        ("source\nn1\n", "expected two columns"),
    ):
        (folder / "edges.csv").write_text(edges)
        with pytest.raises(DatasetError, match=message):
            load_dataset(folder, target="colour")
    (folder / "edges.csv").write_text(EDGES)
    with pytest.raises(
        DatasetError, match=r"no column 'color' for the target; did you mean colour"
    ):
        load_dataset(folder, target="color")
    with pytest.raises(DatasetError, match=r"none\.csv: no such file"):
        load_dataset(folder / "nodes.csv", edges=str(folder / "none.csv"), target="colour")
    (folder / "nodes.csv").write_text(NODES.replace("n2,", "n1,"))
    with pytest.raises(DatasetError, match="the node 'n1' of column 'id' is there twice"):
        load_dataset(folder, target="colour")
    (folder / "nodes.csv").write_text(NODES.replace("test", "maybe"))
    with pytest.raises(DatasetError, match="line 4: 'maybe' is no part"):
        load_dataset(folder, target="colour")


def graph(number: int, nodes: int) -> Any:
    made = nx.path_graph(nodes)
    made.graph["y"] = number
    for node in made:
        made.nodes[node].update(w=node + 0.5, c="ab"[node % 2])
    for one, other in made.edges:
        made.edges[one, other]["d"] = float(one + other)
    return made


def test_networkx_graphs() -> None:
    graphs = from_networkx([graph(0, 3), graph(1, 2), graph(2, 1)])
    assert graphs.ptr.tolist() == [0, 3, 5, 6]
    assert graphs.edge_index.tolist() == [1, 0, 2, 1, 1, 0]
    assert graphs.y.tolist() == [0, 1, 2]
    assert graphs.x[:, 0].tolist() == [0.5, 1.5, 2.5, 0.5, 1.5, 0.5]
    assert graphs.edge_features is not None
    assert graphs.edge_features[:, 0].tolist() == [1, 1, 3, 3, 1, 1]
    directed = nx.DiGraph([(0, 1), (1, 2)])
    nx.set_node_attributes(directed, {0: "r", 1: "g", 2: "r"}, "label")
    one = from_networkx(directed)
    assert (one.task.level, one.class_names) == ("node", ("g", "r"))
    assert one.edge_ptr.tolist() == [0, 0, 1, 2]
    assert not one.symmetric


def test_targets_of_networkx_graphs() -> None:
    items = [graph(0, 3), graph(1, 2)]
    named = from_networkx(items, reading=Reading(target="w"))
    assert named.task.level == "node"
    assert named.y[:, 0].tolist() == [0.5, 1.5, 2.5, 0.5, 1.5]
    assert named.num_features == 2
    with pytest.raises(DatasetError, match=r"no target 'z'.*graphs have y, nodes w, c"):
        from_networkx(items, reading=Reading(target="z"))
    del items[1].nodes[0]["w"]
    with pytest.raises(DatasetError, match="1 of 5 nodes have no attribute 'w'"):
        from_networkx(items)
    with pytest.raises(DatasetError, match="graph 1: int, expected a NetworkX graph"):
        from_networkx([items[0], 3])


def test_graphml(tmp_path: Path) -> None:
    items = [graph(number % 2, 2 + number) for number in range(11)]
    folder = tmp_path / "graphs"
    folder.mkdir()
    for number, item in enumerate(items):
        nx.write_graphml(item, folder / f"g{number}.graphml")
    assert load_dataset(folder).fingerprint == from_networkx(items).fingerprint
    nx.write_graphml(items[3], tmp_path / "one.graphml")
    one = load_dataset(tmp_path / "one.graphml", target="w")
    assert one.name == "one"
    assert one.y[:, 0].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]
    (tmp_path / "bad.graphml").write_text("<graphml")
    with pytest.raises(DatasetError, match="no readable GraphML file"):
        load_dataset(tmp_path / "bad.graphml")


def test_features_of_vectors() -> None:
    made = nx.path_graph(4)
    for node in made:
        made.nodes[node].update(x=np.array([node, 0.5]), y=node % 3)
    graphs = from_networkx(made)
    assert graphs.x.tolist() == [[0, 0.5], [1, 0.5], [2, 0.5], [3, 0.5]]
    assert torch.equal(graphs.y, torch.tensor([0, 1, 2, 0]))
