"""Graphs of PyTorch Geometric, packed. PyG itself is not imported: any such object will do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphnorms.data.features import Features, check_policy
from graphnorms.data.graphset import GraphSet
from graphnorms.data.raw import RawGraphs
from graphnorms.errors import DatasetError


def from_pyg(graphs: Iterable[Any], name: str = "graphs", features: Features = "auto") -> GraphSet:
    """Pack a list of PyG `Data`, or a PyG `Dataset` of them.

    Of each graph, `edge_index` (sources above targets), `y` (its class, one integer) and `x` if
    there is any are used; everything else is ignored. `x` counts as node attributes: `"auto"`
    takes it as it is, and makes features of the degree where there is none. The classes are
    numbered in ascending order, so that labels `0 … classes - 1` stay what they are.

    Args:
        graphs: The graphs.
        name: What to call the set.
        features: What the node features are made of, see `make_features`.

    Raises:
        DatasetError: There are no graphs, or one lacks `edge_index` or `y`, has no nodes, an
            edge to a node that does not exist, features that do not fit, or a class that is
            not one integer; the message says which graph, counted from 0.
    """
    check_policy(features)
    items = list(graphs)
    if not items:
        raise DatasetError("the list of graphs is empty, expected at least one PyG Data")
    edges, sizes, rows, labels = [], [], [], []
    offset = 0
    for position, item in enumerate(items):
        where = f"{name}, graph {position}"
        x = _features(where, item)
        size = _num_nodes(where, item, x)
        edges.append(_edges(where, item, size) + offset)
        labels.append(_label(where, item))
        rows.append(x)
        sizes.append(size)
        offset += size
    source, target = torch.cat(edges, dim=1).numpy()  # (edges,) each
    return RawGraphs(
        name=name,
        ptr=np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))),
        source=source,
        target=target,
        y=np.array(labels, dtype=np.int64),
        attributes=_stack(name, rows),
    ).pack(features)


def _features(where: str, item: Any) -> Tensor | None:
    x = getattr(item, "x", None)
    if x is None:
        return None
    if not isinstance(x, Tensor) or x.dim() not in (1, 2) or x.is_complex():
        given = f"of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise DatasetError(f"{where}: x is {given}, expected a tensor (nodes, features)")
    x = x.detach().cpu().float()
    if not torch.isfinite(x).all():
        raise DatasetError(f"{where}: x holds values that are not finite")
    return x[:, None] if x.dim() == 1 else x


def _num_nodes(where: str, item: Any, x: Tensor | None) -> int:
    size = x.shape[0] if x is not None else getattr(item, "num_nodes", None)
    if size is None:
        raise DatasetError(f"{where}: neither x nor num_nodes says how many nodes it has")
    if size < 1:
        raise DatasetError(f"{where}: the graph has no nodes, expected 1 or more; leave it out")
    return int(size)


def _edges(where: str, item: Any, size: int) -> Tensor:
    edges = getattr(item, "edge_index", None)
    if not isinstance(edges, Tensor):
        raise DatasetError(
            f"{where}: no edge_index; give (2, 0) integers for a graph without edges"
        )
    if edges.dim() != 2 or edges.shape[0] != 2 or edges.is_floating_point():
        raise DatasetError(
            f"{where}: edge_index is {edges.dtype} of shape {tuple(edges.shape)}, "
            "expected integers (2, edges)"
        )
    edges = edges.detach().cpu().long()
    outside = edges[(edges < 0) | (edges >= size)]
    if outside.shape[0]:
        raise DatasetError(
            f"{where}: an edge to node {int(outside[0])}, which does not exist: "
            f"nodes are 0 … {size - 1}"
        )
    return edges


def _label(where: str, item: Any) -> int:
    y = getattr(item, "y", None)
    if y is None:
        raise DatasetError(f"{where}: no y, expected the class of the graph")
    y = torch.as_tensor(y)
    if y.numel() != 1 or not float(y).is_integer():
        given = f"{float(y):g}" if y.numel() == 1 else f"of shape {tuple(y.shape)}"
        raise DatasetError(f"{where}: y is {given}, expected the class of the graph, one integer")
    return int(y)


def _stack(name: str, rows: list[Tensor | None]) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """All graphs' features below each other, or None where no graph has any."""
    width = None if rows[0] is None else rows[0].shape[1]
    for position, x in enumerate(rows):
        given = None if x is None else x.shape[1]
        if given != width:
            raise DatasetError(
                f"{name}, graph {position}: {_columns(given)}, and graph 0 has {_columns(width)}; "
                "all graphs need the same features"
            )
    present = [x for x in rows if x is not None]
    return torch.cat(present).numpy() if present else None


def _columns(width: int | None) -> str:
    return "no x" if width is None else f"x of {width} columns"
