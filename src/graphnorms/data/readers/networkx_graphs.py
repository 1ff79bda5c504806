"""Packs NetworkX graphs, and reads GraphML files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import offsets
from graphnorms.data.readers.attribute_columns import features_of
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.readers.table_files import Table, target_columns, targets_of
from graphnorms.data.split_files import parts_of
from graphnorms.data.text_format import as_name, count, some
from graphnorms.errors import DatasetError, one_line

_TARGETS: Final = ("y", "target", "label", "class")
_SUFFIXES: Final = (".graphml", ".graphml.gz", ".graphml.bz2")


def is_networkx(graphs: Any) -> bool:
    """Whether an object is a NetworkX graph, or a sequence that begins with one."""
    first = graphs[0] if isinstance(graphs, Sequence) and len(graphs) else graphs
    return all(hasattr(first, name) for name in ("adj", "nodes", "edges", "is_directed", "graph"))


def from_networkx(graphs: Any, name: str = "graphs", reading: Reading | None = None) -> GraphSet:
    """Pack a NetworkX graph, or a sequence of them.

    The target of a graph is its attribute `y`, `target`, `label` or `class` (`graph.graph["y"]`);
    if graphs have none, that of the nodes. `target` names it otherwise. All other attributes of
    nodes and edges are features, and each node or edge must have them: integers, bools and texts
    are labels, floats and lists of floats are attributes. The node attribute, or graph attribute,
    `split` (train, val, test) is a given split. Undirected edges become two.

    Args:
        graphs: The graphs.
        name: Name of the set.
        reading: The options.

    Raises:
        DatasetError: There is no graph or target, or attributes are not the same everywhere.
    """
    reading = Reading() if reading is None else reading
    reading.refuse("NetworkX graphs", "smiles", "edges")
    items = list(graphs) if isinstance(graphs, Sequence) else [graphs]
    if not items:
        raise DatasetError("the list of graphs is empty, expected at least one NetworkX graph")
    wrong = next((at for at, item in enumerate(items) if not is_networkx(item)), None)
    if wrong is not None:
        raise DatasetError(
            f"{name}, graph {wrong}: {type(items[wrong]).__name__}, expected a NetworkX graph"
        )
    sizes = np.array([item.number_of_nodes() for item in items])
    nodes = _table(name, "node", [data for item in items for _, data in item.nodes(data=True)])
    source, target, edges = _edges(items, offsets(sizes))
    links = _table(name, "edge", edges)
    level, table, names, notes = _target(name, items, nodes, reading)
    y: NDArray[Any] = np.empty(0)
    split = None
    if reading.encoding is None:
        y, kind = targets_of(table, names, reading.task)
        reading = replace(reading, task=kind)
        if "split" in table.columns:
            split = parts_of(name, table.texts("split").tolist(), table.row)
    left = {column: nodes.values(column) for column in nodes.columns if column != "split"}
    left = {column: left[column] for column in left if level == "graph" or column not in names}
    labels, attributes = features_of(left, reading.features)
    edge_labels, edge_attributes = features_of(
        {column: links.values(column) for column in links.columns}, reading.edge_features
    )
    return RawGraphs(
        name=name,
        ptr=offsets(sizes),
        source=source,
        target=target,
        y=y,
        labels=labels,
        attributes=attributes,
        edge_labels=edge_labels,
        edge_attributes=edge_attributes,
        level=level,
        target_names=() if reading.task == "classification" else tuple(names),
        split=split,
        notes=tuple(notes),
    ).pack(reading)


def is_graphml(path: Path) -> bool:
    """Whether a path is a GraphML file by its name, or a folder of such files."""
    if path.is_dir():
        return any(is_graphml(each) for each in path.iterdir() if each.is_file())
    return path.name.lower().endswith(_SUFFIXES)


def read_graphml(path: Path, reading: Reading) -> GraphSet:
    """Read a GraphML file, or the files of a folder in the order of their names; see
    `from_networkx`.

    Raises:
        DatasetError: NetworkX is missing, or a file is malformed.
    """
    try:
        from networkx import read_graphml as read
    except ImportError:
        raise DatasetError(f"{path}: GraphML takes NetworkX: pip install networkx") from None
    files = [path]
    if path.is_dir():
        found = [each for each in path.iterdir() if is_graphml(each)]
        files = sorted(found, key=lambda each: (len(each.name), each.name))
    graphs = []
    for file in files:
        try:
            graphs.append(read(file))
        except Exception as error:  # NetworkX and the XML parser raise anything
            raise DatasetError(f"{file}: no readable GraphML file ({one_line(error)})") from None
    name = path.resolve().name.split(".graphml")[0]
    return from_networkx(graphs, name, reading)


def _edges(items: Sequence[Any], ptr: NDArray[Any]) -> tuple[Any, Any, list[dict[str, Any]]]:
    """Return sources and targets over the whole set, and the attributes of each edge."""
    source: list[int] = []
    target: list[int] = []
    attributes: list[dict[str, Any]] = []
    for item, first in zip(items, ptr.tolist(), strict=False):
        place = {node: first + number for number, node in enumerate(item.nodes)}
        for one, other, data in item.edges(data=True):
            ends = [(place[one], place[other])]
            if not item.is_directed() and one != other:
                ends.append((place[other], place[one]))
            for a, b in ends:
                source.append(a)
                target.append(b)
                attributes.append(data)
    return np.array(source, dtype=np.int64), np.array(target, dtype=np.int64), attributes


def _table(name: str, noun: str, rows: list[dict[str, Any]]) -> Table:
    """Arrange the attributes of all nodes or edges as a table; lists become columns."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    columns: dict[str, NDArray[Any]] = {}
    for key in names:
        lacking = sum(key not in row for row in rows)
        if lacking:
            raise DatasetError(
                f"{name}: {lacking} of {count(len(rows), noun)} have no attribute {key!r}, and "
                f"others have; give it to each {noun}"
            )
        try:
            values = np.array([row[key] for row in rows])
        except ValueError:
            values = np.empty(0, dtype=object)
        if values.dtype.kind not in "biufU" or values.ndim not in (1, 2):
            raise DatasetError(
                f"{name}: the {noun} attribute {as_name(str(key))!r} is "
                f"{type(rows[0][key]).__name__}, expected a number, a text, or equally many numbers"
            )
        if values.ndim == 1:
            columns[str(key)] = values
        else:
            columns |= {f"{key} {at}": column for at, column in enumerate(values.T)}
    return Table(Path(name), columns)


def _target(
    name: str, items: Sequence[Any], nodes: Table, reading: Reading
) -> tuple[str, Table, list[str], list[str]]:
    """Return the level of the targets, their table and columns, and notes."""
    of_graphs = _common(items)
    if reading.encoding is not None:
        level = reading.encoding.task.level
        table = of_graphs if level == "graph" else nodes
        given = reading.target or next((each for each in _TARGETS if each in table.columns), "")
        return level, table, [each for each in given.split(",") if each in table.columns], []
    wanted = [each.strip() for each in reading.target.split(",")] if reading.target else _TARGETS
    for level, table in (("graph", of_graphs), ("node", nodes)):
        if reading.target and all(each in table.columns for each in wanted):
            names, _ = target_columns(table, reading.target, ())
            return level, table, names, []
        found = next((each for each in wanted if each in table.columns), None)
        if found is not None and not reading.target:
            return level, table, [found], [f"target: {level} attribute {found!r} (guessed)"]
    raise DatasetError(
        f"{name}: no target{f' {reading.target!r}' if reading.target else ''}; give graphs or "
        "nodes an attribute y, or name one by target (--target); graphs have "
        f"{some(of_graphs.columns) or 'no attributes'}, nodes {some(nodes.columns) or 'none'}"
    )


def _common(items: Iterable[Any]) -> Table:
    """Arrange the attributes that all graphs have as a table."""
    rows = [dict(item.graph) for item in items]
    shared = [key for key in rows[0] if all(key in row for row in rows)]
    columns: dict[str, NDArray[Any]] = {}
    for key in shared:
        try:
            values = np.array([row[key] for row in rows])
        except ValueError:
            continue  # such as dictionaries of layout
        if values.ndim == 1 and values.dtype.kind in "biufU":
            columns[str(key)] = values
    return Table(Path("graphs"), columns)
