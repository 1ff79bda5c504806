"""Reads one graph from a table of its nodes and a table of its edges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers
from graphnorms.data.readers.attribute_columns import features_of
from graphnorms.data.readers.edge_directions import DIRECTED, missing_reverses
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.readers.table_files import (
    SUFFIXES,
    TARGETS,
    Table,
    read_table,
    suffix_of,
    target_columns,
    targets_of,
)
from graphnorms.data.split_files import parts_of
from graphnorms.data.splits import MASKS, split_of_masks
from graphnorms.data.text_format import count, some
from graphnorms.errors import DatasetError

_IDS: Final = ("id", "node", "node_id", "nodeid", "node id", "name", "index")
_ENDS: Final = (
    ("source", "target"),
    ("src", "dst"),
    ("from", "to"),
    ("u", "v"),
    ("node1", "node2"),
    ("sender", "receiver"),
    ("head", "tail"),
)
_NODES: Final = ("nodes", "node", "features", "vertices")
_EDGES: Final = ("edges", "edge", "edgelist", "edge_list", "links")


def tables_in(folder: Path) -> tuple[Path, Path] | None:
    """Return the tables of nodes and edges in a folder, if it has both."""

    def first(names: tuple[str, ...]) -> Path | None:
        return next(
            (p for name in names for end in SUFFIXES if (p := folder / f"{name}{end}").is_file()),
            None,
        )

    nodes, edges = first(_NODES), first(_EDGES)
    return None if nodes is None or edges is None else (nodes, edges)


def read_node_folder(folder: Path, reading: Reading) -> GraphSet:
    """Read `nodes.csv` and `edges.csv`, or another kind of table, in a folder; see
    `read_node_table`."""
    tables = tables_in(folder)
    if tables is None:
        raise DatasetError(f"{folder}: expected nodes.csv and edges.csv")
    graphs = read_node_table(tables[0], replace(reading, edges=str(tables[1])))
    return graphs._with(name=folder.resolve().name)


def read_node_table(path: Path, reading: Reading) -> GraphSet:
    """Read one graph: a table with a row for each node, and a table with a row for each edge.

    Columns are guessed by their names. Of the nodes: the id (`id`, `node`, …; without one, nodes
    are numbered from 0), the target, a `split` (train, val, test) or `train_mask`, `val_mask`,
    `test_mask`; all others are features. Of the edges: `source` and `target` (`src`, `dst`; `from`,
    `to`; …; else the first two columns), all others are features. Integers and texts are labels,
    other numbers attributes. Edges are undirected unless only some are listed in both directions.

    Args:
        path: The table of the nodes, `.csv`, `.tsv` or `.parquet`.
        reading: The options; `edges` is the table of the edges, `target` the column to predict.

    Raises:
        DatasetError: A table or column is missing or malformed, or an edge has an unknown node.
    """
    nodes, links = read_table(path), read_table(Path(reading.edges).expanduser())
    ends, notes = _ends(links)
    ids, known = _ids(nodes, links, ends)
    notes.append("nodes are numbered by row" if ids is None else f"node ids are in {ids!r}")
    source, target = (_places(links, name, nodes, ids, known) for name in ends)
    back, directed = missing_reverses(source, target)
    special = {name for name in nodes.columns if name.lower() in (*MASKS, "split")} | {ids}
    names = _targets(nodes, reading, sorted(filter(None, special)), notes)
    y: NDArray[Any] = np.empty(0)
    split = None
    if reading.encoding is None:
        y, kind = targets_of(nodes, names, reading.task)
        reading = replace(reading, task=kind)
        split = _split(nodes)
    columns = {
        name: nodes.values(name)
        for name in nodes.columns
        if name not in special and name not in names
    }
    edge_columns = {name: links.values(name) for name in links.columns if name not in ends}
    labels, attributes = features_of(columns, reading.features)
    edge_labels, edge_attributes = (
        None if part is None else np.concatenate((part, part[back]))
        for part in features_of(edge_columns, reading.edge_features)
    )
    return RawGraphs(
        name=path.name.removesuffix(suffix_of(path)),
        ptr=np.array([0, len(nodes)]),
        source=np.concatenate((source, target[back])),
        target=np.concatenate((target, source[back])),
        y=y,
        labels=labels,
        attributes=attributes,
        edge_labels=edge_labels,
        edge_attributes=edge_attributes,
        level="node",
        target_names=() if reading.task == "classification" else tuple(names),
        split=split,
        repeats=False,
        notes=(*notes, *((DIRECTED,) if directed else ())),
        file=path,
    ).pack(reading)


def _targets(nodes: Table, reading: Reading, others: list[str], notes: list[str]) -> list[str]:
    """Return the columns to predict, and note them; for a prediction, those that are there."""
    if reading.encoding is not None:
        known = {*reading.target.split(","), *reading.encoding.task.targets}
        return [name for name in nodes.columns if name in known or name.lower() in TARGETS]
    names, guessed = target_columns(nodes, reading.target, others)
    notes.append(f"target in {some(map(repr, names))}{' (guessed)' if guessed else ''}")
    return names


def _ends(links: Table) -> tuple[tuple[str, str], list[str]]:
    """Return the columns with the ends of the edges."""
    lower = {name.lower(): name for name in links.columns}
    for one, other in _ENDS:
        if one in lower and other in lower:
            return (lower[one], lower[other]), [f"edges are in {lower[one]!r} and {lower[other]!r}"]
    if len(links.columns) < 2:
        raise DatasetError(
            f"{links.path}: expected two columns with the ends of the edges, such as source and "
            f"target {links.has}"
        )
    first, second = list(links.columns)[:2]
    return (first, second), [f"edges are in {first!r} and {second!r} (guessed)"]


def _ids(nodes: Table, links: Table, ends: tuple[str, str]) -> tuple[str | None, dict[str, int]]:
    """Return the column of node ids, if there is one, and the row of each id."""
    used = {text for name in ends for text in links.texts(name).tolist()}
    named = [name for name in nodes.columns if name.lower() in _IDS]
    for name in [*named, *(each for each in list(nodes.columns)[:1] if each not in named)]:
        texts = nodes.texts(name).tolist()
        known = {text: row for row, text in enumerate(texts)}
        if name in named or (len(known) == len(texts) and used <= known.keys()):
            if len(known) < len(texts):
                again = next(text for row, text in enumerate(texts) if known[text] != row)
                raise DatasetError(
                    f"{nodes.path}: the node {again!r} of column {name!r} is there twice"
                )
            return name, known
    return None, {str(row): row for row in range(len(nodes))}


def _places(
    links: Table, end: str, nodes: Table, ids: str | None, known: dict[str, int]
) -> Integers:
    texts = links.texts(end).tolist()
    places = [known.get(text, -1) for text in texts]
    if -1 in places:
        lost = [row for row, place in enumerate(places) if place < 0]
        where = f"column {ids!r} of {nodes.path.name}" if ids else f"0 … {len(nodes) - 1}"
        raise DatasetError(
            f"{links.path}, {links.row(lost[0])}: {count(len(lost), 'edge')} with a {end} that is "
            f"no node, the first {texts[lost[0]][:40]!r}; nodes are {where}"
        )
    return np.array(places, dtype=np.int64)


def _split(nodes: Table) -> NDArray[np.int8] | None:
    """Return the part of each node from a column `split`, or from masks."""
    lower = {name.lower(): name for name in nodes.columns}
    if "split" in lower:
        return parts_of(f"{nodes.path}", nodes.texts(lower["split"]).tolist(), nodes.row)
    if all(name in lower for name in MASKS):
        masks = [nodes.values(lower[name]) for name in MASKS]
        return split_of_masks(masks, len(nodes), where=str(nodes.path))
    return None
