"""Helpers for layers that take an adjacency."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency


def check_adjacency(adjacency: Adjacency | None, x: Tensor) -> Adjacency:
    """Refuse a missing adjacency, or one that does not fit the rows of x.

    Raises:
        ValueError: It is missing, has another type, number of nodes or device.
    """
    if adjacency is None:
        raise ValueError(
            "adjacency is not given; pass adjacency=Adjacency.from_edge_index(edge_index, "
            "num_nodes)"
        )
    if not isinstance(adjacency, Adjacency):
        raise ValueError(
            f"adjacency is a {type(adjacency).__name__}, expected an Adjacency; make it with "
            "Adjacency.from_edge_index"
        )
    if adjacency.num_nodes != x.shape[0]:
        raise ValueError(
            f"adjacency has {adjacency.num_nodes} nodes, expected {x.shape[0]}, the rows of x"
        )
    if adjacency.device != x.device:
        raise ValueError(f"adjacency is on {adjacency.device}, but x is on {x.device}")
    return adjacency


def targets(adjacency: Adjacency) -> Tensor:
    """Return the target node of the edge at each position of `adjacency.index`, `(edges,)`."""
    return torch.repeat_interleave(adjacency.in_degree, output_size=adjacency.num_edges)
