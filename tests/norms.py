"""Building any normalization of the catalogue for a test, whatever it needs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.layers import lookup
from graphnorms.layers.super_norm import subgraph_factors
from graphnorms.segments import Segments

TYPES, CONDITION = 3, 5


def build_norm(norm: str, channels: int, **arguments: Any) -> nn.Module:
    """`make_norm`, with groups that divide the channels and the sizes that some layers ask for."""
    row = lookup(norm)
    if row.layer is gn.GroupNorm:
        arguments.setdefault("num_groups", math.gcd(channels, 8))
    if "types" in row.needs:
        arguments.setdefault("num_types", TYPES)
    if "condition" in row.needs:
        arguments.setdefault("condition_channels", CONDITION)
    return gn.make_norm(norm, channels, **arguments)


def inputs_of(
    norm: str, x: Tensor, batch: Any, size: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the layer is called with, besides what can be made up from the features."""
    rows = x.shape[0]
    ring = torch.stack([torch.arange(rows), (torch.arange(rows) + 1) % max(rows, 1)])
    adjacency = gn.Adjacency.from_edge_index(ring, rows)
    row = lookup(norm)
    needs = row.needs
    given: dict[str, Any] = {}
    if "adjacency" in (*needs, *row.takes):
        given["adjacency"] = adjacency
    if "factors" in needs:
        given["factors"] = subgraph_factors(adjacency)
    if "condition" in needs:
        generator = torch.Generator().manual_seed(0)
        graphs = batch.num_segments if isinstance(batch, Segments) else size
        given["condition"] = torch.randn(graphs, CONDITION, generator=generator).to(x.dtype)
    if "types" in needs:
        return (x, torch.arange(rows) % TYPES), given
    if "message" in needs:
        return (x.detach().roll(1, 0), x), given
    return (x, batch, size), given


def randomize(layer: torch.nn.Module, generator: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in layer.parameters():
            values = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.5 + values)
