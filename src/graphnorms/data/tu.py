"""Reader for the folders of the TU graph collection."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from graphnorms.data.features import (
    Attributes,
    EdgeFeatures,
    Features,
    check_edge_policy,
    check_policy,
)
from graphnorms.data.graphset import GraphSet
from graphnorms.data.raw import Integers, RawGraphs
from graphnorms.data.targets import TaskKind, check_task
from graphnorms.data.text import NumberFile, count, read_numbers
from graphnorms.errors import DatasetError

_FORMAT = "a folder in TU format has NAME_A.txt, NAME_graph_indicator.txt, NAME_graph_labels.txt"


def read_tu(
    folder: str | os.PathLike[str],
    name: str | None = None,
    features: Features = "auto",
    *,
    task: TaskKind = "auto",
    edge_features: EdgeFeatures = "auto",
) -> GraphSet:
    """Read a folder in TU format.

    `NAME_A.txt` has an edge `source, target` per line; `NAME_graph_indicator.txt` the graph of
    each node, from 1 and ascending; `NAME_graph_labels.txt` the class of each graph, or, where
    it is missing or the task is a regression, `NAME_graph_attributes.txt` its numbers.
    `NAME_node_labels.txt` and `NAME_node_attributes.txt` are read if they are there;
    `NAME_edge_labels.txt` and `NAME_edge_attributes.txt`, in the order of the edges, only if
    `edge_features` asks for them, for the literature's results on these sets are without. Other
    files are ignored. Node ids count from 1 through the whole set. The classes are numbered in
    ascending order of their labels.

    The files may also lie in a folder `raw` inside `folder`, as PyG's `TUDataset` leaves them.
    A graph without nodes is an error: it has nothing to classify it by.

    Args:
        folder: The folder.
        name: The prefix of the files; found if the folder has one `*_A.txt`.
        features: What the node features are made of, see `make_features`.
        task: What the targets are, see `make_targets`.
        edge_features: What the edge features are made of, see `make_edge_features`; `"auto"` is
            `"none"`.

    Raises:
        DatasetError: The folder or a file is missing or malformed; one line that names the
            file, and the line in it.

    Source: Morris et al. 2020, https://arxiv.org/abs/2007.08663, https://chrsmrrs.github.io/datasets.
    """
    check_policy(features)
    check_edge_policy(edge_features)
    check_task(task)
    folder, name = _find(Path(folder), name)

    indicator = _read_required(folder, name, "graph_indicator")
    graph = _read_indicator(indicator)  # (nodes,), from 0
    num_nodes, num_graphs = len(graph), int(graph[-1]) + 1

    y = _read_targets(folder, name, num_graphs, indicator.path, task)
    edges = _read_required(folder, name, "A")
    source, target = _read_edges(edges, graph)

    labels = _read_labels(folder, name, "node", num_nodes, indicator.path)
    attributes = _read_attributes(folder, name, "node", num_nodes, indicator.path)
    edge_labels, edge_attributes = None, None
    if edge_features in ("labels", "attributes"):
        edge_labels = _read_labels(folder, name, "edge", len(source), edges.path)
        edge_attributes = _read_attributes(folder, name, "edge", len(source), edges.path)

    return RawGraphs(
        name=name,
        ptr=np.searchsorted(graph, np.arange(num_graphs + 1)),
        source=source,
        target=target,
        y=y,
        labels=labels,
        attributes=attributes,
        edge_labels=edge_labels,
        edge_attributes=edge_attributes,
    ).pack(features, task=task, edge_features=edge_features)


def is_tu_folder(folder: Path) -> bool:
    """Whether a folder, or the folder `raw` in it, has a file of edges."""
    return any(next(place.glob("*_A.txt"), None) for place in (folder, folder / "raw"))


def _find(folder: Path, name: str | None) -> tuple[Path, str]:
    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder; {_FORMAT}")
    if not folder.is_dir():
        raise DatasetError(f"{folder}: is a file, not a folder; {_FORMAT}")
    if not any(folder.iterdir()):
        raise DatasetError(f"{folder}: the folder is empty; {_FORMAT}")
    if not any(folder.glob("*_A.txt")) and is_tu_folder(folder):
        folder = folder / "raw"
    names = sorted(path.name.removesuffix("_A.txt") for path in folder.glob("*_A.txt"))
    if name is None and len(names) == 1:
        return folder, names[0]
    if name is not None and name in names:
        return folder, name
    if not names:
        raise DatasetError(f"{folder}: missing file {name or 'NAME'}_A.txt; {_FORMAT}")
    if name is None:
        raise DatasetError(
            f"{folder}: holds {len(names)} data sets ({', '.join(names)}); say which as name="
        )
    raise DatasetError(f"{folder}: missing file {name}_A.txt; the folder holds {', '.join(names)}")


def _read_required(folder: Path, name: str, part: str) -> NumberFile:
    path = folder / f"{name}_{part}.txt"
    if not path.is_file():
        raise DatasetError(f"{folder}: missing file {path.name}; {_FORMAT}")
    return read_numbers(path, separator=b",")


def _read_optional(folder: Path, name: str, part: str) -> NumberFile | None:
    path = folder / f"{name}_{part}.txt"
    return read_numbers(path, separator=b",") if path.is_file() else None


def _read_indicator(file: NumberFile) -> Integers:
    if not file.rows:
        raise DatasetError(f"{file.path}: the file is empty, expected the graph of every node")
    what = "the graph of a node"
    graph = file.integers(file.table(1, what), what)[:, 0]
    if graph[0] != 1:
        raise file.error(0, f"the first graph is {graph[0]}, expected 1")
    steps = np.diff(graph)
    wrong = np.flatnonzero((steps < 0) | (steps > 1))
    if len(wrong):
        before, after = graph[wrong[0]], graph[wrong[0] + 1]
        raise file.error(
            int(wrong[0]) + 1,
            f"graph {after} after graph {before}: the graph ids must ascend"
            if after < before
            else f"graph {after} after graph {before}: graph {before + 1} has no nodes; "
            "graph ids must not skip a number",
        )
    return graph - 1


def _read_targets(
    folder: Path, name: str, num_graphs: int, indicator: Path, task: TaskKind
) -> Integers | Attributes:
    """The classes, or the numbers where there are no classes or numbers are asked for."""
    has_classes = (folder / f"{name}_graph_labels.txt").is_file()
    if task == "regression" or not has_classes:
        numbers = _read_attributes(folder, name, "graph", num_graphs, indicator)
        if numbers is not None:
            return numbers
    file = _read_required(folder, name, "graph_labels")
    y = file.integers(file.table(1, "the class of a graph"), "the class of a graph")[:, 0]
    _check_rows(file, num_graphs, "graph", indicator)
    return y


def _read_labels(
    folder: Path, name: str, noun: str, rows: int, counted_by: Path
) -> Integers | None:
    file = _read_optional(folder, name, f"{noun}_labels")
    if file is None:
        return None
    table = file.table(None, f"as many labels as the first {noun}")
    labels = file.integers(table, f"{'an' if noun == 'edge' else 'a'} {noun} label")
    _check_rows(file, rows, noun, counted_by)
    return labels


def _read_attributes(
    folder: Path, name: str, noun: str, rows: int, counted_by: Path
) -> Attributes | None:
    file = _read_optional(folder, name, f"{noun}_attributes")
    if file is None:
        return None
    table = file.table(None, f"as many attributes as the first {noun}")
    _check_rows(file, rows, noun, counted_by)
    return file.values[table].astype(np.float32)


def _read_edges(file: NumberFile, graph: Integers) -> tuple[Integers, Integers]:
    """The edges as node ids from 0, each within one graph: `(edges,)` twice."""
    edges = file.integers(file.table(2, "an edge 'source, target'"), "a node id")
    edges = edges.reshape(-1, 2) - 1  # (edges, 2)
    outside = (edges < 0) | (edges >= len(graph))
    if outside.any():
        row = int(outside.any(axis=1).argmax())
        node = int(edges[row][outside[row]][0]) + 1
        raise file.error(
            row, f"an edge to node {node}, which does not exist: nodes are 1 … {len(graph)}"
        )
    source, target = edges[:, 0], edges[:, 1]
    across = np.flatnonzero(graph[source] != graph[target])
    if len(across):
        row = int(across[0])
        raise file.error(
            row,
            f"an edge between two graphs: node {source[row] + 1} is in graph "
            f"{graph[source[row]] + 1}, node {target[row] + 1} in graph {graph[target[row]] + 1}",
        )
    return source, target


def _check_rows(file: NumberFile, expected: int, noun: str, counted_by: Path) -> None:
    if file.rows != expected:
        where = file.line[expected] if file.rows > expected else file.line[-1] if file.rows else 1
        raise DatasetError(
            f"{file.path}, line {where}: {count(file.rows, 'line')}, expected {expected}, "
            f"one for each {noun} of {counted_by.name}"
        )
