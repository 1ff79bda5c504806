"""Reads data sets as the Open Graph Benchmark distributes them: a folder of CSV files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.feature_columns import labels_or_attributes
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers, offsets
from graphnorms.data.official_metrics import metric_note, official_metric, task_for
from graphnorms.data.readers.edge_directions import DIRECTED, missing_reverses
from graphnorms.data.readers.number_text import NumberFile, read_numbers
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.readers.table_files import read_table, text_of
from graphnorms.data.split_files import merged
from graphnorms.data.text_format import count, some
from graphnorms.errors import DatasetError

_PARTS: Final = ("train", "valid", "test")
_FORMAT: Final = (
    "a raw folder of OGB has edge.csv.gz, num-node-list.csv.gz, num-edge-list.csv.gz, and "
    "graph-label.csv.gz or node-label.csv.gz"
)


def raw_folder(folder: Path) -> Path | None:
    """Return the folder of the raw files, the given one or `raw` in it, or None for another kind.

    The files may be packed by gzip or not.
    """
    for place in (folder, folder / "raw"):
        if _file(place, "edge") and _file(place, "num-node-list"):
            return place
    return None


def read_ogb(folder: Path, reading: Reading) -> GraphSet:
    """Read a data set of the Open Graph Benchmark from its raw CSV files.

    `raw/` has `edge.csv.gz` (an edge `source,target` per line, counted from 0 within its graph),
    `num-node-list.csv.gz` and `num-edge-list.csv.gz` (a number per graph), optionally
    `node-feat.csv.gz` and `edge-feat.csv.gz`, and `graph-label.csv.gz` or `node-label.csv.gz`.
    `split/NAME/{train,valid,test}.csv.gz` has the indices of each part; `mapping/mol.csv.gz` the
    SMILES of molecules. Features of integers are labels, others attributes. Edges listed once are
    undirected, as OGB's `add_inverse_edge` has them; if only some are listed in both directions,
    edges are directed.

    The official metric is known by the name of the folder, such as `ogbg_molhiv`.

    Args:
        folder: The folder with `raw`, or `raw` itself.
        reading: The options.

    Raises:
        DatasetError: A file is missing or malformed; the message names the file and the line.

    Source: Hu et al. 2020, https://arxiv.org/abs/2005.00687.
    """
    raw = raw_folder(folder)
    if raw is None:
        raise DatasetError(f"{folder}: {_FORMAT}")
    home = raw.parent if raw.name == "raw" else raw
    sizes = _numbers(raw, "num-node-list", 1)[:, 0]
    of_graph = _numbers(raw, "num-edge-list", 1)[:, 0]
    pairs = _numbers(raw, "edge", 2)
    if len(of_graph) != len(sizes) or of_graph.sum() != len(pairs):
        raise DatasetError(
            f"{raw}: {count(len(sizes), 'graph')} in num-node-list, {len(of_graph)} in "
            f"num-edge-list with {of_graph.sum()} edges in all, and {count(len(pairs), 'edge')} in "
            "edge"
        )
    ptr = offsets(sizes)
    graph = np.repeat(np.arange(len(sizes)), of_graph)  # (edges,)
    wrong = np.flatnonzero(((pairs < 0) | (pairs >= sizes[graph, None])).any(1))
    if len(wrong):
        at = wrong[0]
        raise DatasetError(
            f"{_file(raw, 'edge')}, line {at + 1}: an edge {pairs[at, 0]},{pairs[at, 1]}, but "
            f"graph {graph[at]} has {sizes[graph[at]]} nodes, counted from 0"
        )
    source, target = (pairs + ptr[graph, None]).T
    back, directed = missing_reverses(source, target)
    nodes = _features(raw, "node-feat", int(ptr[-1]), reading, of_edges=False)
    edges = _features(raw, "edge-feat", len(pairs), reading, of_edges=True)
    edges = [None if part is None else np.concatenate((part, part[back])) for part in edges]
    metric = official_metric(home.name) or official_metric(f"ogbg-mol{home.name}")
    y: NDArray[Any] = np.empty(0)
    if reading.encoding is None:
        y, level = _targets(raw, len(sizes), int(ptr[-1]))
        reading = replace(reading, task=task_for(metric, reading.task))
    else:
        level = reading.encoding.task.level
    split, split_name, notes = (None, "", []) if reading.encoding else _split(home, len(y))
    return RawGraphs(
        name=home.name,
        ptr=ptr,
        source=np.concatenate((source, target[back])),
        target=np.concatenate((target, source[back])),
        y=y,
        labels=nodes[0],
        attributes=nodes[1],
        edge_labels=edges[0],
        edge_attributes=edges[1],
        level=level,
        split=split,
        split_name=split_name,
        smiles=_smiles(home, len(sizes)),
        metric=metric,
        notes=(*metric_note(metric), *((DIRECTED,) if directed else ()), *notes),
        file=home,
    ).pack(reading)


def _file(folder: Path, name: str) -> Path | None:
    return next(
        (p for end in (".csv.gz", ".csv") if (p := folder / f"{name}{end}").is_file()), None
    )


def _open(folder: Path, name: str) -> NumberFile:
    path = _file(folder, name)
    if path is None:
        raise DatasetError(f"{folder}: missing file {name}.csv.gz; {_FORMAT}")
    return read_numbers(path, separator=b",")


def _numbers(folder: Path, name: str, width: int) -> Integers:
    what = {"edge": "an edge 'source,target'"}.get(name, "a number for each graph")
    return _open(folder, name).table(width, what, "an integer")


def _features(raw: Path, name: str, rows: int, reading: Reading, *, of_edges: bool) -> list[Any]:
    """Return labels and attributes of nodes or edges, as far as they are there and requested."""
    if _file(raw, name) is None or not reading.needs("labels", "attributes", of_edges=of_edges):
        return [None, None]
    file = _open(raw, name)
    integers = file.values.dtype == np.int64
    values = file.table(None, "as many features as the first line", "a label" * integers)
    if len(values) != rows:
        noun = "edge" if of_edges else "node"
        raise DatasetError(
            f"{file.path}: {count(len(values), 'line')}, expected {rows}, one for each {noun}"
        )
    given = reading.edge_features if of_edges else reading.features
    return list(labels_or_attributes(values, given))


def _targets(raw: Path, graphs: int, nodes: int) -> tuple[NDArray[Any], str]:
    """Return the targets, NaN where they are missing, and their level."""
    for name, level, rows in (("graph-label", "graph", graphs), ("node-label", "node", nodes)):
        path = _file(raw, name)
        if path is None:
            continue
        y = _label_table(path)
        if len(y) != rows:
            raise DatasetError(f"{path}: {count(len(y), 'line')}, expected {rows}, one per {level}")
        return y, level
    raise DatasetError(f"{raw}: neither graph-label.csv.gz nor node-label.csv.gz; {_FORMAT}")


def _label_table(path: Path) -> NDArray[Any]:
    """Read labels, `(rows, targets)`; an empty field is missing."""
    lines = [line for line in text_of(path).split("\n") if line.strip()]
    cells = [line.split(",") for line in lines]
    width = len(cells[0]) if cells else 0
    for number, row in enumerate(cells):
        if len(row) != width:
            raise DatasetError(
                f"{path}, line {number + 1}: {count(len(row), 'field')}, expected {width}"
            )
    try:
        y = np.array([[cell.strip() or "nan" for cell in row] for row in cells], dtype=np.float64)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}, expected numbers") from None
    integers = np.isfinite(y).all() and "." not in lines[0] and np.array_equal(y, np.rint(y))
    return y.astype(np.int64) if integers else y


def _split(home: Path, items: int) -> tuple[NDArray[np.int8] | None, str, list[str]]:
    """Return the part of each item, the name of the split, and notes."""
    folders = sorted(
        place for place in (home / "split").glob("*") if all(_file(place, p) for p in _PARTS)
    )
    if not folders:
        return None, "", []
    folder = folders[0]
    chosen = [_open(folder, name).table(1, "an index", "an index")[:, 0] for name in _PARTS]
    split = merged(str(folder), chosen, items, "items")
    others = some(each.name for each in folders[1:])
    return split, folder.name, [f"other splits are not read: {others}"] * bool(others)


def _smiles(home: Path, graphs: int) -> list[str] | None:
    """Return the SMILES of the molecules, if the folder has them."""
    path = _file(home / "mapping", "mol")
    if path is None:
        return None
    table = read_table(path)
    if "smiles" not in table.columns or len(table) != graphs:
        return None
    texts: list[str] = table.texts("smiles").tolist()
    return texts
