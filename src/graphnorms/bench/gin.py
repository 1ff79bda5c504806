"""The GIN of the epoch benchmark as a user of PyG writes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.bench import pyg_layers
from graphnorms.data import GraphSet
from graphnorms.models import GNN


class Block(nn.Module):
    """A normalization and ReLU, of PyG or of ours, with PyG's arguments.

    Args:
        norm: Called with features, batch and the number of graphs.
        fused: Whether the ReLU is in it already.
    """

    def __init__(self, norm: nn.Module, *, fused: bool) -> None:
        super().__init__()
        self.norm = norm
        self.fused = fused

    def forward(self, x: Tensor, batch: Tensor, graphs: int) -> Tensor:
        """Normalize and activate."""
        y: Tensor = self.norm(x, batch, graphs)
        return y if self.fused else torch.relu(y)


class PygGIN(nn.Module):
    """`graphnorms.models.GNN` for GIN, from PyG's parts: GINConv, norm, global_add_pool.

    Args:
        widths: Features of a node, then channels of every layer.
        classes: Results per graph, or per node.
        block: Makes a normalization with its ReLU.
        pooled: Whether graphs have the targets; otherwise their nodes do.
    """

    def __init__(
        self,
        widths: list[int],
        classes: int,
        block: Callable[[int], Block],
        *,
        pooled: bool = True,
    ) -> None:
        super().__init__()
        self.pooled = pooled
        layers = pyg_layers.load()
        self.pool = layers.global_add_pool
        self.convolutions = nn.ModuleList()
        self.blocks = nn.ModuleList()
        self.linears = nn.ModuleList()
        self.blocks2 = nn.ModuleList()
        for before, after in itertools.pairwise(widths):
            self.convolutions.append(layers.GINConv(nn.Linear(before, after)))
            self.blocks.append(block(after))
            self.linears.append(nn.Linear(after, after))
            self.blocks2.append(block(after))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, data: Any) -> Tensor:
        """Return the logits of a batch of PyG, `(graphs, classes)` or `(nodes, classes)`.

        `Data` without a batch is one graph.
        """
        x, batch, graphs = data.x, getattr(data, "batch", None), getattr(data, "num_graphs", 1)
        if batch is None:
            batch, graphs = x.new_zeros(x.shape[0], dtype=torch.int64), 1
        parts = (self.convolutions, self.blocks, self.linears, self.blocks2)
        for convolution, block, linear, block2 in zip(*parts, strict=True):
            x = block(convolution(x, data.edge_index), batch, graphs)
            x = block2(linear(x), batch, graphs)
        logits: Tensor = self.head(self.pool(x, batch, graphs) if self.pooled else x)
        return logits

    def linear_pairs(self, model: GNN) -> list[tuple[nn.Linear, nn.Linear]]:
        """Return every Linear of this model beside the one of ours that does the same."""
        names = [("head", "head")]
        for layer in range(len(self.convolutions)):
            names.append((f"convolutions.{layer}.nn", f"convolutions.{layer}.linear"))
            names.append((f"linears.{layer}", f"convolutions.{layer}.linear2"))
        mine, other = dict(self.named_modules()), dict(model.named_modules())
        pairs = [(mine[one], other[two]) for one, two in names]
        return [
            (one, two)
            for one, two in pairs
            if isinstance(one, nn.Linear) and isinstance(two, nn.Linear)
        ]

    def copy_from(self, model: GNN) -> None:
        """Take over the weights of a GIN of ours; norms stay as they were made."""
        with torch.no_grad():
            for mine, other in self.linear_pairs(model):
                mine.load_state_dict(other.state_dict())


def as_pyg_data(graphs: GraphSet) -> list[Any]:
    """Return a graph set as a list of PyG's `Data` with memory of their own, one per graph."""
    data = pyg_layers.load("data").Data
    node_bounds = graphs.ptr.tolist()
    target = torch.repeat_interleave(graphs.edge_ptr.diff())  # (edges,), in the whole set
    edge_bounds = graphs.edge_ptr[graphs.ptr].tolist()
    items = []
    x = graphs.x  # made anew at every access
    for graph in range(len(graphs)):
        first, last = node_bounds[graph : graph + 2]
        begin, end = edge_bounds[graph : graph + 2]
        edge_index = torch.stack((graphs.edge_index[begin:end], target[begin:end] - first))
        y = graphs.y[first:last] if graphs.task.level == "node" else graphs.y[graph : graph + 1]
        items.append(data(x=x[first:last].clone(), edge_index=edge_index, y=y.clone()))
    return items
