"""GCN and GIN for graphs and nodes, with the normalization as an argument."""

from __future__ import annotations

import functools

import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.catalog import lookup, make_norm
from graphnorms.models.config import ModelConfig
from graphnorms.models.convolutions import GCNConv, GINConv
from graphnorms.models.initialize import initialize
from graphnorms.models.readout import readout
from graphnorms.segments import Segments


class GNN(nn.Module):
    """Convolutions with normalization, a readout, and one Linear.

    Args:
        config: The architecture.
        norm: Catalogue name of the normalization.
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
        lookup(norm)
        for kind, number in (("in_channels", in_channels), ("out_channels", out_channels)):
            if number < 1:
                raise ValueError(f"{kind} is {number}, expected a positive number")
        self.config = config
        make = functools.partial(make_norm, norm, eps=config.norm_eps, activation="relu")
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
        for layer, convolution in enumerate(self.convolutions):
            y = convolution(x, adjacency, segments)
            x = x + y if config.residual and layer else y
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
