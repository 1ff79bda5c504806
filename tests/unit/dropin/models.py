"""Models as users write them, small, and batches for them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.segments import Segments

WIDTH = 6


class Minibatch(NamedTuple):
    """Nodes of a few graphs, in any order, and who belongs where."""

    x: Tensor
    batch: Tensor
    graphs: int

    @property
    def ptr(self) -> Tensor:
        return Segments.from_batch(self.batch, self.graphs).ptr


def minibatch(rows: int = 12, graphs: int = 3, *, ascending: bool = False) -> Minibatch:
    generator = torch.Generator().manual_seed(rows)
    batch = torch.arange(rows) % graphs
    if ascending:
        batch = batch.sort().values
    return Minibatch(torch.randn(rows, WIDTH, generator=generator) * 2 + 1, batch, graphs)


def by_graph(x: Tensor, batch: Tensor) -> Tensor:
    """InstanceNorm by hand: every channel of every graph standardized."""
    y = torch.empty_like(x)
    for graph in batch.unique():
        rows = batch == graph
        y[rows] = standardized(x[rows])
    return y


def standardized(x: Tensor) -> Tensor:
    o = x - x.mean(0)
    return o / (o.square().mean(0) + 1e-5).sqrt()


class Plain(nn.Module):
    """A norm, and nothing told to it."""

    def __init__(self, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH) if norm is None else norm

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        return y


class Given(Plain):
    """The same, but the model is given the graphs."""

    def forward(  # type: ignore[override]
        self, x: Tensor, batch: Any = None, batch_size: int | None = None, ptr: Any = None
    ) -> Tensor:
        y: Tensor = self.norm(x)
        return y


class OfData(Plain):
    """The same, given an object that holds everything."""

    def forward(self, data: Any) -> Tensor:  # type: ignore[override]
        y: Tensor = self.norm(data.x)
        return y


class Pooled(nn.Module):
    """Norms of nodes, of edges and, behind a sum over the graphs, of graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = nn.BatchNorm1d(WIDTH)
        self.edges = nn.BatchNorm1d(WIDTH)
        self.graphs = nn.BatchNorm1d(WIDTH)
        self.unused = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        x = self.nodes(x)
        messages = self.edges(x[edge_index[0]])
        x = x.index_add(0, edge_index[1], messages)
        y: Tensor = self.graphs(x.new_zeros(batch_size, WIDTH).index_add(0, batch, x))
        return y
