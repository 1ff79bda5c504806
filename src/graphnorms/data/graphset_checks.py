"""Checks of the tensors of a graph set; each error names the tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.data.onehot import OneHot
from graphnorms.data.task_kinds import FORCES
from graphnorms.data.text_format import count

if TYPE_CHECKING:
    from graphnorms.data.graphset import GraphSet

_BLOCK: Final = 1 << 18
"""Nodes and edges that are checked at a time, so that checks of a large set take little memory."""


def check_graph_set(graphs: GraphSet, *, contents: bool = True) -> None:
    """Check shapes, dtypes, devices and contents of a set's tensors.

    Args:
        graphs: The set.
        contents: Whether to read edges, features and atoms; targets, split and the offsets of the
            graphs are always read.

    Raises:
        ValueError: The tensors are not consistent, see `GraphSet`.
    """
    _check_features("x", graphs.kept_x, contents=contents)
    vectors = {
        "ptr": graphs.ptr,
        "edge_ptr": graphs.edge_ptr,
        "edge_index": graphs.edge_index,
        "transpose_ptr": graphs.transpose_ptr,
        "transpose_index": graphs.transpose_index,
    }
    for name, vector in vectors.items():
        check_tensor(name, vector, torch.int64, 1)
    placed: dict[str, Tensor | OneHot | None] = {
        **vectors,
        "y": graphs.y,
        "edge_features": graphs.kept_edge_features,
        "split": graphs.split,
    }
    for name, tensor in placed.items():
        if tensor is not None and tensor.device != graphs.device:
            raise ValueError(
                f"{name} is on {tensor.device} and x on {graphs.device}; expected one device"
            )
    if not graphs.ptr.shape[0]:
        raise ValueError("ptr is empty, expected graphs + 1 offsets, the first one 0")
    _check_targets(graphs)
    check_offsets("ptr", graphs.ptr, len(graphs), "graphs", graphs.num_nodes, "nodes")
    _check_edges(graphs, contents=contents)
    if (edge_features := graphs.kept_edge_features) is not None:
        _check_features("edge_features", edge_features, contents=contents)
        _check_rows("edge_features", edge_features.shape[0], graphs.num_edges, "edges")
    if (split := graphs.split) is not None:
        check_tensor("split", split, torch.int8, 2 if split.dim() == 2 else 1)
        check_split(split, graphs.num_items)
    _check_atoms(graphs, contents=contents)


def _check_atoms(graphs: GraphSet, *, contents: bool) -> None:
    """Check that a set has atoms iff its task is about forces, and a row for each of them."""
    atoms, of_forces = graphs.atoms, graphs.task.kind == FORCES
    if (atoms is not None) != of_forces:
        raise ValueError(
            f"the task is {graphs.task.kind} and atoms {'are' if atoms is not None else 'are not'} "
            f"given; expected atoms for the task {FORCES!r}, and for no other"
        )
    if atoms is None:
        return
    if graphs.task.level != "graph" or graphs.task.outputs != 1:
        raise ValueError(
            f"the task has {graphs.task.outputs} targets of each {graphs.task.level}, expected one "
            "energy of each graph"
        )
    atoms.check(graphs.num_nodes, graphs.num_edges, contents=contents)


def check_split(split: Tensor, items: int) -> None:
    """Refuse a split, `(items,)` or `(items, splits)`, that does not fit the items."""
    if split.dim() not in (1, 2) or (split.dim() == 2 and not split.shape[1]):
        raise ValueError(
            f"split is of shape {tuple(split.shape)}, expected ({items},) or ({items}, splits)"
        )
    _check_rows("split", split.shape[0], items, "items")
    wrong = split[(split < -1) | (split > 2)]
    if wrong.shape[0]:
        raise ValueError(
            f"split holds {int(wrong[0])}, expected 0 (training), 1 (validation), 2 (test) "
            "or -1 (unused)"
        )


def _check_targets(graphs: GraphSet) -> None:
    y, task = graphs.y, graphs.task
    if task.kind == "classification":
        check_tensor("y", y, torch.int64, 1)
        wrong = y[(y < -1) | (y >= task.outputs)]
        if wrong.shape[0]:
            raise ValueError(
                f"y holds class {int(wrong[0])}, expected 0 … {task.outputs - 1}, for there are "
                f"{task.outputs} classes, or -1 where it is not known"
            )
    else:
        wide = task.kind == FORCES or (task.kind == "regression" and y.dtype == torch.float64)
        check_tensor("y", y, torch.float64 if wide else torch.float32, 2)
        if y.shape[1] != task.outputs:
            raise ValueError(
                f"y has {y.shape[1]} columns, expected {task.outputs}: one for each target"
            )
        wrong = y[
            ((y != 0) & (y != 1) if task.kind == "binary" else y.float().isinf()) & ~y.isnan()
        ]
        if wrong.shape[0]:
            expected = "0, 1 or NaN" if task.kind == "binary" else "finite numbers or NaN"
            raise ValueError(f"y holds {float(wrong[0]):g}, expected {expected}")
    if task.level == "node":
        _check_rows("y", y.shape[0], graphs.num_nodes, "nodes")
    else:
        _check_rows("y", y.shape[0], len(graphs), "graphs")


def _check_edges(graphs: GraphSet, *, contents: bool) -> None:
    pairs = [("edge", graphs.edge_ptr, graphs.edge_index)]
    if not graphs.symmetric:
        pairs.append(("transpose", graphs.transpose_ptr, graphs.transpose_index))
    if not contents:
        for kind, ptr, index in pairs:
            check_offsets(f"{kind}_ptr", ptr[[0, -1]], 1, "nodes", index.shape[0], f"{kind} ids")
            _check_rows(f"{kind}_ptr", ptr.shape[0], graphs.num_nodes + 1, "nodes, and one more")
        _check_rows("transpose_index", graphs.transpose_index.shape[0], graphs.num_edges, "edges")
        return
    for kind, ptr, index in pairs:
        check_offsets(f"{kind}_ptr", ptr, graphs.num_nodes, "nodes", index.shape[0], f"{kind} ids")
    # Block by block: what the checks compute is several times as large as the edges.
    rows = (graphs.ptr[1:] + graphs.edge_bounds[1:]).div(_BLOCK, rounding_mode="floor")
    first = 0
    for number in torch.unique_consecutive(rows, return_counts=True)[1].tolist():
        _check_edges_of(graphs.ptr[first : first + number + 1], pairs)
        first += number


def _check_edges_of(bounds: Tensor, pairs: Sequence[tuple[str, Tensor, Tensor]]) -> None:
    """Check the edges of some consecutive graphs.

    Args:
        bounds: Offsets of the graphs' nodes.
        pairs: The names and CSR pairs of all nodes, whose offsets have been checked.
    """
    begin, end = int(bounds[0]), int(bounds[-1])
    counts = bounds.diff()
    sizes = torch.repeat_interleave(counts, counts)  # (nodes,), size of each node's graph
    first = torch.repeat_interleave(bounds[:-1] - begin, counts)  # (nodes,)
    shifted = []
    for kind, all_ptr, all_index in pairs:
        ptr = all_ptr[begin : end + 1]
        before = int(ptr[0])
        ptr, index = ptr - before, all_index[before : int(ptr[-1])]
        row = torch.repeat_interleave(ptr.diff())  # (edges,)
        outside = ((index < 0) | (index >= sizes[row])).nonzero()
        if outside.shape[0]:
            at = int(outside[0, 0])
            raise ValueError(
                f"{kind}_index holds {int(index[at])} at {before + at}, but that edge's graph has "
                f"{int(sizes[row[at]])} nodes; ids count from 0 within each graph"
            )
        shifted += [ptr, index + first[row]]
    Adjacency(*shifted)  # checks that the transpose has the same edges


def _check_features(name: str, features: Tensor | OneHot, *, contents: bool) -> None:
    if isinstance(features, OneHot):
        features.validate(contents=contents)
    else:
        check_tensor(name, features, torch.float32, 2)


def _check_rows(name: str, given: int, expected: int, noun: str) -> None:
    if given != expected:
        raise ValueError(
            f"{name} has {count(given, 'row')}, expected {expected}: one for each of the {noun}"
        )


def check_tensor(name: str, tensor: Tensor, dtype: torch.dtype, dimensions: int) -> None:
    """Refuse a tensor with another dtype or number of dimensions."""
    if tensor.dtype != dtype or tensor.dim() != dimensions:
        raise ValueError(
            f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, "
            f"expected {dtype} with {dimensions} dimension{'s' if dimensions > 1 else ''}"
        )


def check_offsets(
    name: str, ptr: Tensor, rows: int, rows_noun: str, end: int, end_noun: str
) -> None:
    """Refuse offsets that are not `rows + 1` numbers ascending from 0 to `end`."""
    if ptr.shape[0] != rows + 1:
        raise ValueError(
            f"{name} has {ptr.shape[0]} entries, expected {rows + 1}: "
            f"one more than there are {rows_noun}"
        )
    if fault := offsets_fault(ptr, end, end_noun):
        raise ValueError(f"{name} {fault}")


def offsets_fault(ptr: Tensor, end: int, noun: str) -> str:
    """Return why offsets do not ascend from 0 to `end`; empty if they do."""
    if int(ptr[0]) != 0 or int(ptr[-1]) != end:
        return (
            f"goes from {int(ptr[0])} to {int(ptr[-1])}, expected offsets from 0 to {end}, "
            f"the number of {noun}"
        )
    for first in range(0, ptr.shape[0] - 1, _BLOCK):
        falls = (ptr[first : first + _BLOCK + 1].diff() < 0).nonzero()  # (falls, 1)
        if falls.shape[0]:
            at = first + int(falls[0, 0])
            found = f"{int(ptr[at])} is followed by {int(ptr[at + 1])} at position {at + 1}"
            return f"does not ascend: {found}"
    return ""
