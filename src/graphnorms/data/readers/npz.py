"""Reader and writer of graph sets in NumPy's `.npz` format."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.feature_columns import Features, labels_or_attributes
from graphnorms.data.graphset import GraphSet
from graphnorms.data.integer_arrays import Integers, first_true
from graphnorms.data.onehot import OneHot
from graphnorms.data.readers.edge_directions import DIRECTED, has_directions
from graphnorms.data.readers.gnn_benchmark import read_matrices
from graphnorms.data.readers.npz_arrays import Arrays
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading, ReadOptions
from graphnorms.data.readers.stored_words import StoredWords, local_targets
from graphnorms.data.task_kinds import KINDS, LEVELS
from graphnorms.data.tasks import TaskKind
from graphnorms.data.text_format import some
from graphnorms.files import replacing


def read_npz(
    path: str | os.PathLike[str],
    name: str | None = None,
    features: Features = "auto",
    **options: Unpack[ReadOptions],
) -> GraphSet:
    """Read a `.npz` file, as written by `numpy.savez_compressed`, with these arrays.

    | array | shape | what |
    |---|---|---|
    | `node_ptr` | `(graphs + 1,)` | where each graph's nodes begin, and where the last one's end; a file without it is one graph |
    | `edge_ptr` | `(graphs + 1,)` | the same of the edges, where there is `node_ptr` |
    | `edge_index` | `(2, edges)` | sources above targets, counted from 0 within their graph |
    | `edges` | `(pairs, 2)` | in a file of one graph, in place of `edge_index`: undirected edges; those listed again, in either direction, are merged |
    | `x` | `(nodes, columns)` | integers are labels, made one-hot column by column, and so are floats that are one-hot; other floats are attributes |
    | `x_ptr`, `x_ind`, `x_dim` | `(nodes + 1,)`, `(ones,)`, `()` | in place of `x`: attributes of 0 and 1, the columns of node i's ones being `x_ind[x_ptr[i]:x_ptr[i + 1]]` of `x_dim` |
    | `edge_attr` | `(edges, columns)` | as `x`, row k for the edge k of `edge_index` or `edges` |
    | `y` | `(items,)` or `(items, targets)` | the targets of the graphs or of the nodes, see `make_targets` |
    | `split` or `NAME_split` | `(items,)` or `(items, splits)` | 0 training, 1 validation, 2 test, -1 unused |
    | `train_mask`, `val_mask`, `test_mask` | `(items,)` or `(items, splits)` | in place of `split` |
    | `class_names` | `(classes,)` | text: what the classes 0, 1, … are called; `y` is then -1 where unknown |
    | `target_names` | `(targets,)` | text: what questions or numbers are called |
    | `name`, `task`, `level`, `unit`, `features` | `()` | text: of the set, the kind of its task, whether `graph` or `node` has targets, the unit of numbers, and what `x` is; where missing the file's name, or what `y` and `x` look like |
    | `split_name` | `()` | text: what made the split |
    | `metric` | `()` | text: the official metric of the set |
    | `smiles` | `(graphs,)` | text: the molecules, for splits by scaffold |
    | `notes` | `(notes,)` | text: what a user should be told of the set |
    | `x_width`, `edge_attr_width` | `()` | `x` or `edge_attr` is encoded already: the columns of that many in which a row is 1 |

    `node_ptr`, `edge_index` (or `edges`) and `y` are required, other arrays are ignored. Numbers may have any sufficient type, and `y` may be texts, the names of the classes. There are as many targets as graphs or as nodes. If both fit, `level` decides; without it, targets belong to the nodes of a single graph, or else to the graphs. For node targets, the integer -1 means that the class is unknown. Pickled objects are refused (`allow_pickle=False`).

    Two public layouts of a single graph are supported, too. Heterophilous sets have `node_features`, `node_labels`, `edges`, `train_masks`, `val_masks`, `test_masks`, with a row per split; their edges are directed if only some are listed in both directions. gnn-benchmark has a sparse matrix `adj_indptr`, `adj_indices` and `adj_shape`, another one `attr_…` (binarized) or a dense one `attr_matrix`, and the classes `labels`. As in PyG its edges are made undirected, and self loops dropped.

    Args:
        path: The file.
        name: Name of the set.
        features: The policy for node features, see `node_columns`.
        options: See `Reading`; with the task `"auto"`, that of the file takes precedence.

    Raises:
        DatasetError: The file is missing or malformed; the message names file and array.

    Source: for the public layouts, Platonov et al. 2023, https://arxiv.org/abs/2302.11640; Shchur
    et al. 2018, https://arxiv.org/abs/1811.05868.
    """  # noqa: E501
    reading = Reading(features=features, **options)
    with Arrays(Path(path)) as arrays:
        if "adj_indptr" in arrays:
            raw = read_matrices(arrays, reading)
            return replace(raw, name=name or raw.name, file=arrays.path).pack(reading)
        raw, words = _raw(arrays, reading), _words(arrays)
        return words.pack(replace(raw, name=name or words.name, file=arrays.path), reading)


def _words(arrays: Arrays) -> StoredWords:
    """Return what a file says of the set."""
    task: TaskKind = "auto"
    if kind := arrays.text("task"):
        task = cast(TaskKind, arrays.one_of("task", kind, KINDS))
    return StoredWords(
        name=arrays.text("name") or arrays.path.name.removesuffix(".npz"),
        task=task,
        features=arrays.text("features"),
        class_names=arrays.texts("class_names"),
        target_names=arrays.texts("target_names"),
        unit=arrays.text("unit"),
        metric=arrays.text("metric"),
        notes=arrays.texts("notes"),
    )


def _raw(arrays: Arrays, reading: Reading) -> RawGraphs:
    """Return the graphs of a file."""
    public = "node_labels" in arrays and "y" not in arrays
    x_name, y_name = ("node_features", "node_labels") if public else ("x", "y")
    labels, attributes, rows = _node_features(arrays, x_name, reading)
    ptr = _node_ptr(arrays, x_name, rows)
    one_way = public and _has_directions(arrays)
    source, target, edge_labels, edge_attributes = _edges(arrays, ptr, reading, one_way=one_way)
    directions = (DIRECTED,) if one_way else ()
    if reading.encoding is not None:
        y, level = np.empty(0), reading.encoding.task.level
    else:
        y = _targets(arrays, y_name)
        level = _level(arrays, y_name, len(y), ptr)
    split, split_name = (None, "") if reading.encoding else arrays.split(len(y))
    smiles = arrays.texts("smiles")
    if smiles and len(smiles) != len(ptr) - 1:
        raise arrays.error("smiles", f"has {len(smiles)} entries, expected {len(ptr) - 1}")
    return RawGraphs(
        name="",
        ptr=ptr,
        source=source,
        target=target,
        y=y,
        labels=labels,
        attributes=attributes,
        edge_labels=edge_labels,
        edge_attributes=edge_attributes,
        level=level,
        split=split,
        split_name=split_name,
        smiles=smiles or None,
        repeats="edge_index" in arrays,
        notes=directions,
    )


def _has_directions(arrays: Arrays) -> bool:
    """Whether `edges` lists some edges in both directions, and others in one."""
    if "edges" not in arrays or "edge_index" in arrays:
        return False
    edges = arrays.integers("edges", (2,))
    if edges.shape[1] != 2:
        return False  # reported when they are read
    return has_directions(edges[:, 0], edges[:, 1])


def save_npz(graphs: GraphSet, path: str | os.PathLike[str]) -> None:
    """Write a graph set as a `.npz` file for `read_npz`.

    The file is written atomically. A missing folder is created.

    Args:
        graphs: The set, on any device.
        path: The path; an existing file is replaced.
    """
    graphs = graphs.to("cpu")
    path = Path(path)
    bounds = graphs.edge_ptr[graphs.ptr]  # (graphs + 1,), where each graph's edges begin
    arrays: dict[str, Any] = {
        **StoredWords.of(graphs).to_dict(),
        "level": graphs.task.level,
        "node_ptr": _narrow(graphs.ptr),
        "edge_ptr": _narrow(bounds),
        "edge_index": _narrow(torch.stack((graphs.edge_index, local_targets(graphs)))),
        **_kept("x", graphs.kept_x),
        **_kept("edge_attr", graphs.kept_edge_features),
        "y": _narrow(graphs.y) if graphs.class_names else graphs.y.numpy(),
    }
    if graphs.split is not None:
        named = graphs.split_name.isidentifier() and graphs.split_name != "given"
        if not named and graphs.split_name != "given":
            arrays["split_name"] = graphs.split_name
        arrays[f"{graphs.split_name}_split" if named else "split"] = graphs.split.numpy()
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _kept(name: str, features: torch.Tensor | OneHot | None) -> dict[str, Any]:
    if features is None:
        return {}
    if isinstance(features, OneHot):
        return {name: features.columns.numpy(), f"{name}_width": features.width}
    return {name: features.numpy()}


def _narrow(tensor: torch.Tensor) -> NDArray[Any]:
    """Convert integers to the smallest sufficient type."""
    array = tensor.numpy()
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    return array.astype(np.result_type(np.min_scalar_type(low), np.min_scalar_type(high)))


def _node_features(
    arrays: Arrays, name: str, reading: Reading
) -> tuple[Any, NDArray[Any] | None, int | None]:
    """Return labels and attributes of the nodes and their number, None if missing."""
    if not reading.needs("labels", "attributes") and "node_ptr" in arrays:
        return None, None, None
    if name in arrays:
        values = _columns(arrays, name)
        return *labels_or_attributes(values, reading.features), values.shape[0]
    if "x_ptr" not in arrays:
        return None, None, None
    width = arrays.scalar("x_dim")
    of_row, columns, rows = arrays.entries("x_ptr", "x_ind", "x_dim", width)
    arrays.check_stated("x_dim", rows * width, ["x_ptr", "x_ind"])
    x = np.zeros((rows, width), dtype=np.float32)
    x[of_row, columns] = 1
    return None, x, rows


def _columns(
    arrays: Arrays, name: str, edges: int | None = None, again: Integers | None = None
) -> NDArray[Any] | OneHot:
    """Read node or edge features with one or several columns, one-hot if they have a width.

    The number of rows must be `edges` if given; the rows `again` are appended.
    """
    values = arrays.numbers(name, dimensions=(1, 2))
    values = values[:, None] if values.ndim == 1 else values
    if edges is not None and len(values) != edges:
        raise arrays.error(name, f"{len(values)} rows, expected {edges}, one for each edge")
    encoded = f"{name}_width" in arrays
    if encoded:
        width = arrays.scalar(f"{name}_width")
        values = arrays.integers(name, (1, 2)).reshape(values.shape)
        arrays.check_range(name, values, width, f"{name}_width")
        arrays.check_stated(f"{name}_width", width, [name])
    if again is not None:
        values = np.concatenate((values, values[again]))
    return OneHot.from_columns(torch.from_numpy(values), width) if encoded else values


def _node_ptr(arrays: Arrays, x_name: str, rows: int | None) -> Integers:
    if "node_ptr" in arrays:
        ptr = arrays.integers("node_ptr", (1,))
        arrays.check_offsets("node_ptr", ptr, rows, f"rows of {x_name}")
        if rows is None:
            arrays.check_stated("node_ptr", int(ptr[-1]), ["node_ptr", "edge_index", "y"])
        return ptr
    if rows is None:
        raise arrays.error(
            "node_ptr",
            f"is missing, and so is {x_name}; give one of them. The file holds {some(arrays)}",
        )
    return np.array([0, rows], dtype=np.int64)


def _targets(arrays: Arrays, name: str) -> NDArray[Any]:
    """Read numbers, or the names of classes."""
    if name in arrays and arrays[name].dtype.kind in "US" and arrays[name].ndim == 1:
        return arrays[name]
    return arrays.numbers(name, dimensions=(1, 2))


def _edges(
    arrays: Arrays, ptr: Integers, reading: Reading, *, one_way: bool
) -> tuple[Integers, Integers, Any, NDArray[Any] | None]:
    """Read the edges with ids over the whole set, their labels and their attributes."""
    if "edge_index" not in arrays and "edges" in arrays:
        return _pairs(arrays, ptr, reading, one_way=one_way)
    edges = arrays.integers("edge_index", (2,))
    if edges.shape[0] != 2:
        raise arrays.error("edge_index", f"has shape {edges.shape}, expected (2, edges)")
    edge_ptr = np.array([0, edges.shape[1]], dtype=np.int64)
    if "edge_ptr" in arrays or len(ptr) > 2:
        edge_ptr = arrays.integers("edge_ptr", (1,))
        arrays.check_offsets("edge_ptr", edge_ptr, edges.shape[1], "edges")
    if len(edge_ptr) != len(ptr):
        raise arrays.error(
            "edge_ptr", f"has {len(edge_ptr)} entries, expected {len(ptr)}, as node_ptr has"
        )
    graph = np.repeat(np.arange(len(ptr) - 1), np.diff(edge_ptr))  # (edges,)
    sizes = np.diff(ptr)[graph]
    if (at := first_true(np.asarray(((edges < 0) | (edges >= sizes)).any(0)))) is not None:
        raise arrays.error(
            "edge_index",
            f"edge {at} goes from {edges[0, at]} to {edges[1, at]}, but its graph {graph[at]} "
            f"has {sizes[at]} nodes, counted from 0",
        )
    source, target = edges + ptr[graph]
    return source, target, *_edge_features(arrays, edges.shape[1], reading)


def _edge_features(
    arrays: Arrays, edges: int, reading: Reading, again: Integers | None = None
) -> tuple[Any, NDArray[Any] | None]:
    if "edge_attr" not in arrays or not reading.needs("labels", "attributes", of_edges=True):
        return None, None
    return labels_or_attributes(_columns(arrays, "edge_attr", edges, again), reading.edge_features)


def _pairs(
    arrays: Arrays, ptr: Integers, reading: Reading, *, one_way: bool
) -> tuple[Integers, Integers, Any, NDArray[Any] | None]:
    edges = arrays.integers("edges", (2,))
    if edges.shape[1] != 2:
        raise arrays.error("edges", f"has shape {edges.shape}, expected (pairs, 2)")
    if len(ptr) > 2:
        raise arrays.error("edges", f"but {len(ptr) - 1} graphs: give edge_index and edge_ptr")
    arrays.check_range("edges", edges, int(ptr[-1]), "the number of nodes")
    # A loop is its own reverse.
    again = np.flatnonzero((edges[:, 0] != edges[:, 1]) & (not one_way))
    source, target = np.concatenate((edges, edges[again, ::-1])).T.copy()
    return source, target, *_edge_features(arrays, len(edges), reading, again)


def _level(arrays: Arrays, name: str, items: int, ptr: Integers) -> str:
    graphs, nodes = len(ptr) - 1, int(ptr[-1])
    counts = {"graph": graphs, "node": nodes}
    if level := arrays.text("level"):
        arrays.one_of("level", level, LEVELS)
    elif items not in counts.values():
        raise arrays.error(
            name,
            f"has {items} rows, expected {graphs}, one for each graph, or {nodes}, for each node",
        )
    else:
        level = "node" if items == nodes and (graphs == 1 or items != graphs) else "graph"
    if items != counts[level]:
        raise arrays.error(
            name, f"has {items} rows, expected {counts[level]}, one for each {level}"
        )
    return level
