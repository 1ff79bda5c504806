"""Turns a graph set into a list of PyG's `Data`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphnorms.data.graphset import GraphSet


def to_pyg(graphs: GraphSet) -> list[Any]:
    """Return the graphs as PyG's `Data` with `x`, `edge_index`, `y` and, if there are, `edge_attr`.

    Frames of atoms also have `z`, `pos`, `forces` and, with periodic images, `shifts`; see
    `graphnorms.data.Atoms`.

    `y` is `(1,)` or `(1, targets)` for a graph, and has a row per node in node-level tasks, as
    `graphnorms.data.Task` says. `from_pyg` reads such a list.

    Raises:
        ImportError: PyG is not installed.
    """
    try:
        from torch_geometric.data import Data
    except ImportError:
        raise ImportError("a list of PyG Data needs: pip install torch_geometric") from None
    x, edge_features = graphs.x, graphs.edge_features
    of_nodes = graphs.task.level == "node"
    made = []
    for place in range(len(graphs)):
        first, last = graphs.ptr[place : place + 2].tolist()
        begin, end = graphs.edge_ptr[[first, last]].tolist()
        degrees = graphs.edge_ptr[first : last + 1].diff()
        target = torch.repeat_interleave(torch.arange(last - first), degrees)  # (edges,)
        atoms: Mapping[str, Tensor] = {}
        if graphs.atoms is not None:
            places = torch.arange(first, last), torch.arange(begin, end)
            atoms = graphs.atoms.of(*places).tensors()
        made.append(
            Data(
                x=x[first:last],
                edge_index=torch.stack((graphs.edge_index[begin:end], target)),
                edge_attr=None if edge_features is None else edge_features[begin:end],
                y=graphs.y[first:last] if of_nodes else graphs.y[place : place + 1],
                **atoms,
            )
        )
    return made
