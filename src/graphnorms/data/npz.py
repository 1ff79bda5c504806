"""Reader and writer for graph sets in NumPy's `.npz` files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from graphnorms.data.arrays import Arrays
from graphnorms.data.features import (
    EdgeFeatures,
    Features,
    check_edge_policy,
    check_policy,
    labels_or_attributes,
)
from graphnorms.data.graphset import GraphSet
from graphnorms.data.onehot import OneHot
from graphnorms.data.raw import Integers, RawGraphs
from graphnorms.data.targets import TaskKind, check_task
from graphnorms.data.task import LEVELS
from graphnorms.errors import DatasetError
from graphnorms.files import replacing


def read_npz(
    path: str | os.PathLike[str],
    name: str | None = None,
    features: Features = "auto",
    *,
    task: TaskKind = "auto",
    edge_features: EdgeFeatures = "auto",
) -> GraphSet:
    """Read a `.npz` file, as `numpy.savez_compressed` writes it, of these arrays.

    | array | shape | what |
    |---|---|---|
    | `node_ptr` | `(graphs + 1,)` | where each graph's nodes begin, and where the last one's end; a file without it is one graph |
    | `edge_ptr` | `(graphs + 1,)` | the same of the edges, where there is `node_ptr` |
    | `edge_index` | `(2, edges)` | sources above targets, counted from 0 within their graph |
    | `edges` | `(pairs, 2)` | in a file of one graph, in place of `edge_index`: undirected edges, each once |
    | `x` | `(nodes, columns)` | integers are labels, made one-hot column by column; floats are attributes |
    | `x_ptr`, `x_ind`, `x_dim` | `(nodes + 1,)`, `(ones,)`, `()` | in place of `x`: attributes of 0 and 1, the columns of node i's ones being `x_ind[x_ptr[i]:x_ptr[i + 1]]` of `x_dim` |
    | `edge_attr` | `(edges, columns)` | as `x`, row k for the edge k of `edge_index` or `edges` |
    | `y` | `(items,)` or `(items, targets)` | the targets of the graphs or of the nodes, see `make_targets` |
    | `split` or `NAME_split` | `(items,)` | 0 training, 1 validation, 2 test, -1 unused |
    | `class_names` | `(classes,)` | text: what the classes 0, 1, … are called; `y` is then -1 where unknown |
    | `target_names` | `(targets,)` | text: what questions or numbers are called |
    | `name`, `task`, `level`, `unit`, `features` | `()` | text: of the set, the kind of its task, whether `graph` or `node` has targets, the unit of numbers, and what `x` is; where missing the file's name, or what `y` and `x` look like |
    | `x_width`, `edge_attr_width` | `()` | `x` or `edge_attr` is encoded already: the columns of that many in which a row is 1 |

    `node_ptr`, `edge_index` (or `edges`) and `y` are needed, other arrays are ignored. Numbers
    may be of any type that holds them. There are as many targets as graphs or as nodes; for one
    graph, and where both fit, `level` decides, without it the nodes of a single graph and else
    the graphs. Of node targets an integer of -1 says that the class is not known. Nothing that
    executes code when it is loaded is accepted (`allow_pickle=False`).

    Args:
        path: The file.
        name: What to call the set.
        features: What the node features are made of, see `make_features`.
        task: What the targets are, see `make_targets`; `"auto"` takes the file's word first.
        edge_features: What the edge features are made of, see `make_edge_features`.

    Raises:
        DatasetError: The file is missing or malformed; one line that names file and array.
    """  # noqa: E501
    check_policy(features)
    check_edge_policy(edge_features)
    check_task(task)
    arrays = Arrays.read(Path(path))
    set_name = name or arrays.text("name") or Path(path).name.removesuffix(".npz")
    x = _node_features(arrays)
    labels, attributes = (x, None) if isinstance(x, OneHot) else labels_or_attributes(x, features)
    ptr = _node_ptr(arrays, None if x is None else x.shape[0])
    source, target, edge_values = _edges(arrays, ptr)
    edge_labels, edge_attributes = (
        (edge_values, None)
        if isinstance(edge_values, OneHot)
        else labels_or_attributes(edge_values, edge_features)
    )
    y = arrays.numbers("y", dimensions=(1, 2))
    level = _level(arrays, len(y), ptr)
    class_names, target_names = arrays.texts("class_names"), arrays.texts("target_names")
    split, split_name = _split(arrays, len(y))
    if task == "auto" and (kind := arrays.text("task")):
        task = cast(
            TaskKind, arrays.one_of("task", kind, ("classification", "binary", "regression"))
        )
    elif task == "auto" and class_names:
        task = "classification"
    try:
        graphs = RawGraphs(
            name=set_name,
            ptr=ptr,
            source=source,
            target=target,
            y=y,
            labels=labels,
            attributes=attributes,
            edge_labels=edge_labels,
            edge_attributes=edge_attributes,
            level=level,
            target_names=class_names if task == "classification" else target_names,
            unit=arrays.text("unit"),
            unknown=-1 if class_names or level == "node" else None,
            split=split,
            split_name=split_name,
        ).pack(features, task=task, edge_features=edge_features)
    except DatasetError as error:
        raise DatasetError(f"{arrays.path}: {error}") from None
    words = arrays.text("features")
    return graphs._with(features=words) if words and features == "auto" else graphs


def save_npz(graphs: GraphSet, path: str | os.PathLike[str]) -> None:
    """Write a graph set as a `.npz` file that `read_npz` makes the same set of.

    The file is written beside `path` and renamed, so that there is never half of one. The folder
    is made if it is not there.

    Args:
        graphs: The set, on any device.
        path: Where to; an existing file is replaced.
    """
    graphs = graphs.to("cpu")
    path = Path(path)
    bounds = graphs.edge_ptr[graphs.ptr]  # (graphs + 1,), where each graph's edges begin
    first = torch.repeat_interleave(graphs.ptr[:-1], graphs.ptr.diff())  # (nodes,)
    local = torch.arange(graphs.num_nodes) - first
    target = torch.repeat_interleave(local, graphs.edge_ptr.diff())  # (edges,)
    arrays: dict[str, Any] = {
        "name": graphs.name,
        "task": graphs.task.kind,
        "level": graphs.task.level,
        "features": graphs.features,
        "node_ptr": _narrow(graphs.ptr),
        "edge_ptr": _narrow(bounds),
        "edge_index": _narrow(torch.stack((graphs.edge_index, target))),
        **_kept("x", graphs.kept_x),
        **_kept("edge_attr", graphs.kept_edge_features),
        "y": _narrow(graphs.y) if graphs.class_names else graphs.y.numpy(),
        "class_names" if graphs.class_names else "target_names": list(graphs.task.targets),
    }
    if graphs.task.unit:
        arrays["unit"] = graphs.task.unit
    if graphs.split is not None:
        named = graphs.split_name.isidentifier() and graphs.split_name != "given"
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
    """Integers in the smallest type that holds them."""
    array = tensor.numpy()
    low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
    return array.astype(np.result_type(np.min_scalar_type(low), np.min_scalar_type(high)))


def _node_features(arrays: Arrays) -> NDArray[Any] | OneHot | None:
    if "x" in arrays:
        return _columns(arrays, "x", None)
    if "x_ptr" not in arrays:
        return None
    ptr, columns = arrays.integers("x_ptr", (1,)), arrays.integers("x_ind", (1,))
    width = arrays.scalar("x_dim")
    arrays.check_offsets("x_ptr", ptr, len(columns), "entries of x_ind")
    arrays.check_range("x_ind", columns, width, "x_dim")
    x = np.zeros((len(ptr) - 1, width), dtype=np.float32)
    x[np.repeat(np.arange(len(x)), np.diff(ptr)), columns] = 1
    return x


def _columns(arrays: Arrays, name: str, rows: int | None) -> NDArray[Any] | OneHot:
    """Node or edge features, of one column or several, encoded if they say their width."""
    values = arrays.numbers(name, dimensions=(1, 2))
    values = values[:, None] if values.ndim == 1 else values
    if rows is not None and len(values) != rows:
        raise arrays.error(name, f"{len(values)} rows, expected {rows}, one for each edge")
    if f"{name}_width" not in arrays:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise arrays.error(name, "holds values that are not finite")
        return values
    width = arrays.scalar(f"{name}_width")
    values = arrays.integers(name, (1, 2)).reshape(values.shape)
    arrays.check_range(name, values, width, f"{name}_width")
    return OneHot.from_columns(torch.from_numpy(values), width)


def _node_ptr(arrays: Arrays, rows: int | None) -> Integers:
    if "node_ptr" in arrays:
        ptr = arrays.integers("node_ptr", (1,))
        arrays.check_offsets("node_ptr", ptr, rows, "rows of x")
        empty = np.flatnonzero(np.diff(ptr) == 0)
        if len(empty):
            raise arrays.error("node_ptr", f"graph {empty[0]} has no nodes, expected 1 or more")
        return ptr
    if rows is None:
        raise arrays.error("node_ptr", "is missing, and so is x: how many nodes are there?")
    return np.array([0, rows], dtype=np.int64)


def _edges(
    arrays: Arrays, ptr: Integers
) -> tuple[Integers, Integers, NDArray[Any] | OneHot | None]:
    """The edges as ids through the set, and their features."""
    if "edge_index" not in arrays and "edges" in arrays:
        return _undirected(arrays, ptr)
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
    outside = np.flatnonzero(((edges < 0) | (edges >= sizes)).any(0))
    if len(outside):
        at = int(outside[0])
        raise arrays.error(
            "edge_index",
            f"edge {at} goes from {edges[0, at]} to {edges[1, at]}, but its graph {graph[at]} "
            f"has {sizes[at]} nodes, counted from 0",
        )
    source, target = edges + ptr[graph]
    values = _columns(arrays, "edge_attr", edges.shape[1]) if "edge_attr" in arrays else None
    return source, target, values


def _undirected(
    arrays: Arrays, ptr: Integers
) -> tuple[Integers, Integers, NDArray[Any] | OneHot | None]:
    edges = arrays.integers("edges", (2,))
    if edges.shape[1] != 2:
        raise arrays.error("edges", f"has shape {edges.shape}, expected (pairs, 2)")
    if len(ptr) > 2:
        raise arrays.error("edges", f"but {len(ptr) - 1} graphs: give edge_index and edge_ptr")
    arrays.check_range("edges", edges, int(ptr[-1]), "the number of nodes")
    again = np.flatnonzero(edges[:, 0] != edges[:, 1])  # a loop is its own way back
    both = np.concatenate((edges, edges[again, ::-1]))
    values = _columns(arrays, "edge_attr", len(edges)) if "edge_attr" in arrays else None
    if values is not None:
        rows = np.concatenate((np.arange(len(edges)), again))
        values = (
            values.index_select(0, torch.from_numpy(rows))
            if isinstance(values, OneHot)
            else values[rows]
        )
    return both[:, 0].copy(), both[:, 1].copy(), values


def _level(arrays: Arrays, items: int, ptr: Integers) -> str:
    graphs, nodes = len(ptr) - 1, int(ptr[-1])
    counts = {"graph": graphs, "node": nodes}
    if level := arrays.text("level"):
        arrays.one_of("level", level, LEVELS)
    elif items not in counts.values():
        raise arrays.error(
            "y",
            f"has {items} rows, expected {graphs}, one for each graph, or {nodes}, for each node",
        )
    else:
        level = "node" if items == nodes and (graphs == 1 or items != graphs) else "graph"
    if items != counts[level]:
        raise arrays.error("y", f"has {items} rows, expected {counts[level]}, one for each {level}")
    return level


def _split(arrays: Arrays, items: int) -> tuple[NDArray[np.int8] | None, str]:
    names = [name for name in arrays if name.endswith("_split")]
    if "split" in arrays:
        names = ["split"]
    if not names:
        return None, ""
    if len(names) > 1:
        raise arrays.error(names[1], f"a second split beside {names[0]}; expected one at most")
    name = names[0]
    split = arrays.integers(name, (1,))
    if len(split) != items:
        raise arrays.error(name, f"has {len(split)} entries, expected {items}, as y has")
    wrong = split[(split < -1) | (split > 2)]
    if len(wrong):
        raise arrays.error(
            name,
            f"holds {wrong[0]}, expected 0 (training), 1 (validation), 2 (test) or -1 (unused)",
        )
    return split.astype(np.int8), name.removesuffix("split").rstrip("_")
