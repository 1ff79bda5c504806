"""GCN and GIN for graphs and nodes, with the normalization as an argument."""

from __future__ import annotations

import functools

import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.factory import lookup
from graphnorms.layers.super_norm import subgraph_factors
from graphnorms.models.config import ModelConfig
from graphnorms.models.convolutions import GCNConv, GINConv
from graphnorms.models.initialize import initialize
from graphnorms.models.readout import readout
from graphnorms.models.slot import GraphContext, NormSlot
from graphnorms.segments import Segments


class GNN(nn.Module):
    """Convolutions with normalization, a readout, and one Linear.

    Args:
        config: The architecture.
        norm: The normalization as text: its catalogue name, arguments behind a colon. Where one
            needs node types, the type is the largest input feature (the label, where features
            are one-hot); where it needs a condition, that is the mean input of the graph.
        in_channels: Features of a node.
        out_channels: Results per graph, or per node with the head `"node"`.
        seed: Seeds the initial weights; each depends on the seed and its own name only.

    Raises:
        ValueError: The norm is unknown, or a number is not positive.
    """

    def __init__(
        self, config: ModelConfig, norm: str, in_channels: int, out_channels: int, *, seed: int
    ) -> None:
        super().__init__()
        needs = lookup(norm).needs
        for kind, number in (("in_channels", in_channels), ("out_channels", out_channels)):
            if number < 1:
                raise ValueError(f"{kind} is {number}, expected a positive number")
        self.config = config
        self.needs = needs
        make = functools.partial(
            NormSlot, norm, eps=config.norm_eps, place=config.norm_place,
            residual_place=config.residual_place, num_types=in_channels,
            condition_channels=in_channels,
        )  # fmt: skip
        self.convolutions = nn.ModuleList()
        for layer in range(config.layers):
            width = config.hidden if layer else in_channels
            if config.name == "gin":
                self.convolutions.append(GINConv(width, config.hidden, make, config.self_weight))
            else:
                self.convolutions.append(GCNConv(width, config.hidden, make))
        self.head = nn.Linear(config.hidden, out_channels)
        initialize(self, seed)

    def forward(self, x: Tensor, adjacency: Adjacency, segments: Segments) -> Tensor:
        """Return the logits, `(graphs, out_channels)`, or `(nodes, out_channels)`."""
        config = self.config
        context = GraphContext(
            adjacency, segments,
            types=x.argmax(1) if "types" in self.needs else None,
            condition=readout(x, segments, "mean") if "condition" in self.needs else None,
            factors=subgraph_factors(adjacency) if "factors" in self.needs else None,
        )  # fmt: skip
        for layer, convolution in enumerate(self.convolutions):
            x = convolution(x, context, residual=x if config.residual and layer else None)
        if config.head == "graph":
            x = readout(x, segments, config.readout)
        if config.dropout_on == "features":
            x = F.dropout(x, config.dropout, self.training)
        logits: Tensor = self.head(x)
        if config.dropout_on == "logits":
            logits = F.dropout(logits, config.dropout, self.training)
        return logits

    def num_parameters(self) -> int:
        """Count the learned numbers."""
        return sum(parameter.numel() for parameter in self.parameters())
