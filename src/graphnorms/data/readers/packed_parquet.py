"""Reads and writes Parquet files with one graph per row."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.feature_columns import labels_or_attributes
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers, offsets
from graphnorms.data.onehot import OneHot
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.data.readers.stored_words import StoredWords, local_targets
from graphnorms.data.readers.table_files import open_parquet
from graphnorms.data.text_format import some
from graphnorms.errors import DatasetError
from graphnorms.files import replacing

_KEY: Final = b"graphnorms"
_COLUMNS: Final = {
    "x": ("node_feat", "x", "node_features"),
    "edge_attr": ("edge_attr", "edge_feat", "edge_features"),
    "y": ("y", "label", "target", "labels"),
}


def is_packed(path: Path) -> bool:
    """Whether a Parquet file has a column `edge_index` of lists."""
    if path.suffix != ".parquet":
        return False
    schema = open_parquet(path).schema_arrow
    return "edge_index" in schema.names and "list" in str(schema.field("edge_index").type)


def read_packed(path: Path, reading: Reading) -> GraphSet:
    """Read a Parquet file with one graph per row, as on the Hugging Face hub.

    | column | type | what |
    |---|---|---|
    | `edge_index` | list of two lists | sources and targets, counted from 0 |
    | `node_feat` or `x` | list of lists | a row for each node |
    | `edge_attr` | list of lists | a row for each edge |
    | `y` | number or list | the targets of the graph, or of its nodes |
    | `num_nodes` | integer | number of nodes |
    | `smiles` | text | the molecule |
    | `split` | integer or list | part of the graph, or of each node: 0, 1, 2, or -1 |

    Integers are labels, other numbers attributes. `GraphSet.to_parquet` writes such files, with
    names and tasks in their metadata.

    Args:
        path: The file.
        reading: The options.

    Raises:
        DatasetError: A column is missing or malformed, or pyarrow is missing.
    """
    file = open_parquet(path)
    meta = json.loads((file.schema_arrow.metadata or {}).get(_KEY, b"{}"))
    columns = _Columns(path, file.read())
    ends = columns.lists("edge_index", depth=2)
    if any(len(pair) != 2 or len(pair[0]) != len(pair[1]) for pair in ends):
        raise DatasetError(f"{path}: edge_index, expected two lists of equal length in each row")
    of_graph = np.array([len(pair[0]) for pair in ends], dtype=np.int64)
    x = columns.rows("x")
    sizes = columns.sizes(x)
    ptr = offsets(sizes)
    graph = np.repeat(np.arange(len(sizes)), of_graph)
    local = np.array([[*pair] for pair in ends], dtype=object)
    edges = np.stack(
        [np.concatenate([np.asarray(e, np.int64) for e in local[:, k]]) for k in (0, 1)]
    )
    wrong = np.flatnonzero(((edges < 0) | (edges >= sizes[graph])).any(0))
    if len(wrong):
        at = wrong[0]
        raise DatasetError(
            f"{path}, row {graph[at]}: an edge {edges[0, at]}, {edges[1, at]}, but the graph has "
            f"{sizes[graph[at]]} nodes, counted from 0"
        )
    source, target = edges + ptr[graph]
    labels, attributes = _features(x, meta.get("x_width"), reading.features)
    edge_labels, edge_attributes = _features(
        columns.rows("edge_attr"), meta.get("edge_attr_width"), reading.edge_features
    )
    y, level = (np.empty(0), reading.encoding.task.level) if reading.encoding else columns.y(sizes)
    words = StoredWords.read(meta, path.name.removesuffix(".parquet"))
    raw = RawGraphs(
        name=words.name,
        ptr=ptr,
        source=source,
        target=target,
        y=y,
        labels=labels,
        attributes=attributes,
        edge_labels=edge_labels,
        edge_attributes=edge_attributes,
        level=level,
        split=columns.split(level),
        split_name=meta.get("split_name", ""),
        smiles=columns.smiles(),
        file=path,
    )
    return words.pack(raw, reading)


class _Columns:
    """The columns of a file."""

    def __init__(self, path: Path, table: Any) -> None:
        self.path, self.table = path, table

    def name(self, what: str) -> str | None:
        return next((n for n in _COLUMNS[what] if n in self.table.column_names), None)

    def lists(self, name: str, depth: int) -> list[Any]:
        values: list[Any] = self.table[name].to_pylist()
        if not values:
            raise DatasetError(f"{self.path}: the file has no rows")
        wrong = next((at for at, value in enumerate(values) if not _nested(value, depth)), None)
        if wrong is not None:
            raise DatasetError(
                f"{self.path}, row {wrong}: {name} is {str(values[wrong])[:40]}, expected a list"
                f"{' of lists' if depth == 2 else ''}"
            )
        return values

    def rows(self, what: str) -> list[NDArray[Any]] | None:
        """Return the features of each graph, `(rows, columns)`, or None if there are none."""
        name = self.name(what)
        if name is None or all(value is None for value in self.table[name].to_pylist()):
            return None
        values = self.lists(name, 2)
        width = max((len(row) for value in values for row in value), default=0)
        try:
            found = [np.array(value).reshape(len(value), width) for value in values]
            if any(rows.dtype.kind not in "biuf" for rows in found if rows.size):
                raise ValueError
        except ValueError:
            raise DatasetError(
                f"{self.path}: {name}, expected equally many numbers for each node or edge"
            ) from None
        return found

    def sizes(self, x: list[NDArray[Any]] | None) -> Integers:
        if x is not None:
            return np.array([len(rows) for rows in x], dtype=np.int64)
        if "num_nodes" not in self.table.column_names:
            raise DatasetError(
                f"{self.path}: neither node_feat nor num_nodes (columns: "
                f"{some(self.table.column_names)})"
            )
        values = self.table["num_nodes"].to_pylist()
        return np.array([v[0] if isinstance(v, list) else v for v in values], dtype=np.int64)

    def y(self, sizes: Integers) -> tuple[NDArray[Any], str]:
        name = self.name("y")
        if name is None:
            raise DatasetError(f"{self.path}: no column y (it has {some(self.table.column_names)})")
        values = self.table[name].to_pylist()
        rows = [value if isinstance(value, list) else [value] for value in values]
        flat = [row if isinstance(row, list) else [row] for value in rows for row in value]
        lengths = np.array([len(value) for value in rows])
        of_nodes = isinstance(rows[0][0], list) or (lengths != lengths[0]).any()
        of_nodes = of_nodes or (len(rows) == 1 and sizes[0] == lengths[0] > 1)
        if of_nodes:
            if not np.array_equal(lengths, sizes):
                raise DatasetError(
                    f"{self.path}: {name} has {some(lengths, few=3)} entries in its rows, expected "
                    "as many in each, or one for each node"
                )
            return self._numbers(name, flat), "node"
        return self._numbers(name, rows), "graph"

    def _numbers(self, name: str, rows: list[list[Any]]) -> NDArray[Any]:
        cells = [cell for row in rows for cell in row]
        if cells and all(isinstance(cell, str) for cell in cells):
            return np.array(cells)
        if len({len(row) for row in rows}) > 1:
            raise DatasetError(f"{self.path}: {name}, expected equally many targets in each row")
        missing = any(cell is None for cell in cells)
        y = np.array([[np.nan if c is None else c for c in row] for row in rows])
        y = y.astype(np.float64) if missing else y
        if y.dtype.kind not in "biuf":
            raise DatasetError(f"{self.path}: {name}, expected numbers or texts")
        return y[:, 0] if y.shape[1] == 1 and y.dtype.kind in "biu" else y

    def split(self, level: str) -> NDArray[Any] | None:
        if "split" not in self.table.column_names:
            return None
        values = self.table["split"].to_pylist()
        if level == "node":
            values = [part for value in values for part in value]
        try:
            return np.array(values, dtype=np.int64)
        except (TypeError, ValueError):
            raise DatasetError(
                f"{self.path}: split, expected 0, 1, 2 or -1 for each item"
            ) from None

    def smiles(self) -> list[str] | None:
        if "smiles" not in self.table.column_names:
            return None
        values: list[Any] = self.table["smiles"].to_pylist()
        return values if all(isinstance(value, str) for value in values) else None


def _nested(value: Any, depth: int) -> bool:
    if not isinstance(value, list):
        return False
    return depth == 1 or all(_nested(each, depth - 1) for each in value)


def _features(rows: list[NDArray[Any]] | None, width: int | None, policy: str) -> tuple[Any, Any]:
    if rows is None:
        return None, None
    values = np.concatenate([each for each in rows if each.size] or rows)
    if width:
        return labels_or_attributes(OneHot.from_columns(torch.from_numpy(values), width), policy)
    return labels_or_attributes(values, policy)


def save_parquet(graphs: GraphSet, path: str | os.PathLike[str]) -> None:
    """Write a graph set as a Parquet file with one graph per row, for `read_packed`.

    The file is written to a temporary name and renamed. A missing folder is created.

    Args:
        graphs: The set, on any device.
        path: The path; an existing file is replaced.

    Raises:
        DatasetError: pyarrow is missing.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DatasetError("Parquet takes pyarrow: pip install 'graphnorms[export]'") from None
    graphs = graphs.to("cpu")
    task, of_nodes = graphs.task, graphs.task.level == "node"
    sizes = graphs.ptr.diff().tolist()
    bounds = graphs.edge_ptr[graphs.ptr].diff().tolist()
    targets = local_targets(graphs).split(bounds)
    pairs = zip(graphs.edge_index.split(bounds), targets, strict=True)
    y = graphs.y if task.kind == "classification" else graphs.y.double()
    columns: dict[str, Any] = {
        "edge_index": [[one.tolist(), other.tolist()] for one, other in pairs],
        "node_feat": _by_graph(graphs.kept_x, sizes),
        "edge_attr": _by_graph(graphs.kept_edge_features, bounds),
        "y": [rows.tolist() for rows in y.split(sizes)] if of_nodes else y.tolist(),
        "num_nodes": sizes,
    }
    if graphs.split is not None:
        parts = graphs.split.long()
        columns["split"] = [p.tolist() for p in parts.split(sizes)] if of_nodes else parts.tolist()
    meta = {
        **StoredWords.of(graphs).to_dict(),
        "split_name": graphs.split_name,
        "x_width": _width(graphs.kept_x),
        "edge_attr_width": _width(graphs.kept_edge_features),
    }
    table = pa.table({name: values for name, values in columns.items() if values is not None})
    table = table.replace_schema_metadata({_KEY: json.dumps(meta)})
    with replacing(Path(path)) as temporary:
        parquet.write_table(table, temporary)


def _by_graph(features: torch.Tensor | OneHot | None, sizes: list[int]) -> list[Any] | None:
    if features is None:
        return None
    rows = features.columns if isinstance(features, OneHot) else features
    return [part.tolist() for part in rows.split(sizes)]


def _width(features: torch.Tensor | OneHot | None) -> int | None:
    return features.width if isinstance(features, OneHot) else None
