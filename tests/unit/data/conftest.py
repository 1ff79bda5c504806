"""The embedded graphs, and writers of the file formats that the readers read."""

from __future__ import annotations

import gzip
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from graphnorms.data import GraphSet, load_dataset

Graph = tuple[int, list[tuple[int, int]], torch.Tensor, int]


def take_apart(graphs: GraphSet) -> list[Graph]:
    """Each graph as (nodes, edges (source, target) in sorted order, x, y), by slow loops."""
    apart = []
    ptr, edge_ptr = graphs.ptr.tolist(), graphs.edge_ptr.tolist()
    neighbours = graphs.edge_index.tolist()
    for graph in range(len(graphs)):
        begin, end = ptr[graph], ptr[graph + 1]
        edges = [
            (neighbours[place], node - begin)
            for node in range(begin, end)
            for place in range(edge_ptr[node], edge_ptr[node + 1])
        ]
        apart.append((end - begin, sorted(edges), graphs.x[begin:end], int(graphs.y[graph])))
    return apart


def write_tu(folder: Path, name: str, graphs: GraphSet) -> Path:
    """Write one-hot labelled graphs as a TU folder, the edges in another order than packed."""
    folder.mkdir(parents=True, exist_ok=True)
    edges, indicator, labels, classes, offset = [], [], [], [], 0
    for graph, (nodes, pairs, x, y) in enumerate(take_apart(graphs)):
        edges += [f"{s + offset + 1}, {t + offset + 1}" for s, t in reversed(pairs)]
        indicator += [str(graph + 1)] * nodes
        labels += [str(int(row.argmax())) for row in x]
        classes.append(graphs.class_names[y])
        offset += nodes
    for part, lines in {
        "A": edges,
        "graph_indicator": indicator,
        "node_labels": labels,
        "graph_labels": classes,
    }.items():
        (folder / f"{name}_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_powerful_gnns(path: Path, graphs: GraphSet) -> Path:
    """Write one-hot labelled graphs as a powerful-gnns text; gzip if the name says so."""
    lines = [str(len(graphs))]
    for nodes, pairs, x, y in take_apart(graphs):
        lines.append(f"{nodes} {graphs.class_names[y]}")
        for node in range(nodes):
            near = [str(s) for s, t in reversed(pairs) if t == node]
            lines.append(" ".join([str(int(x[node].argmax())), str(len(near)), *near]))
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


@pytest.fixture(scope="session")
def mutag() -> GraphSet:
    return load_dataset("MUTAG")


@pytest.fixture(name="take_apart", scope="session")
def _take_apart() -> Callable[[GraphSet], list[Graph]]:
    return take_apart


@pytest.fixture
def tu_folder(tmp_path: Path, mutag: GraphSet) -> Path:
    """MUTAG as a TU folder, to be read or spoilt."""
    return write_tu(tmp_path / "tu", "MUTAG", mutag)


@pytest.fixture
def text_file(tmp_path: Path, mutag: GraphSet) -> Path:
    """MUTAG as a powerful-gnns text."""
    return write_powerful_gnns(tmp_path / "MUTAG.txt", mutag)


@pytest.fixture
def gzip_file(tmp_path: Path, mutag: GraphSet) -> Path:
    """MUTAG as a compressed powerful-gnns text."""
    return write_powerful_gnns(tmp_path / "MUTAG.txt.gz", mutag)


@pytest.fixture(scope="session")
def pyg_data() -> ModuleType:
    """`torch_geometric.data`; importing it calls what torch has deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("torch_geometric.data")
