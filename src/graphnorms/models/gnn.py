"""GCN, GIN and GINE for graph- and node-level tasks, with the normalization as an argument."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.factory import needs_of
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.layers.super_norm import subgraph_factors
from graphnorms.models.convolutions import GCNConv, GINConv, GINEConv
from graphnorms.models.initialize import initialize
from graphnorms.models.model_config import ModelConfig
from graphnorms.models.norm_slot import GraphContext, NormSlot, check_sizes
from graphnorms.models.readout import readout
from graphnorms.segments import Segments


class GNN(nn.Module):
    """Convolutions with normalization, a readout, and one Linear.

    Args:
        config: The architecture.
        norm: The normalization as text: its catalogue name, optionally with arguments after a
            colon; or a user-defined one. For norms with node types, the type is the largest input
            feature (the label of one-hot features); for norms with a condition, it is the mean
            input of the graph.
        in_channels: Features of a node.
        out_channels: Outputs per graph, or per node with the head `"node"`.
        edge_channels: Features of an edge; used by GINE only.
        seed: Seed of the initial weights; each depends on the seed and its name only.

    Raises:
        ValueError: The norm is unknown, a number is not positive, or the model is GINE and edges
            have no features.
    """

    def __init__(
        self,
        config: ModelConfig,
        norm: str | OwnNorm,
        in_channels: int,
        out_channels: int,
        *,
        edge_channels: int = 0,
        seed: int,
    ) -> None:
        super().__init__()
        needs = needs_of(norm)
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        if config.name == "gine" and edge_channels < 1:
            raise ValueError(
                "the graphs have no edge features, which the model 'gine' needs; use 'gin'"
            )
        self.config = config
        self.needs = needs
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.edge_channels = edge_channels
        make = functools.partial(
            NormSlot,
            norm,
            eps=config.eps_of(norm),
            place=config.norm_place,
            residual_place=config.residual_place,
            num_types=in_channels,
            condition_channels=in_channels,
            level=config.head,
        )
        self.convolutions = nn.ModuleList()
        for layer in range(config.layers):
            width = config.hidden if layer else in_channels
            convolution: nn.Module
            if config.name == "gin":
                convolution = GINConv(width, config.hidden, make, config.self_weight)
            elif config.name == "gine":
                convolution = GINEConv(
                    width, config.hidden, make, edge_channels, config.self_weight
                )
            else:
                convolution = GCNConv(width, config.hidden, make)
            self.convolutions.append(convolution)
        self.head = nn.Linear(config.hidden, out_channels)
        initialize(self, seed)

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        segments: Segments,
        edge_features: Tensor | None = None,
        factors: Tensor | None = None,
    ) -> Tensor:
        """Return the logits, `(graphs, out_channels)`, or `(nodes, out_channels)`.

        Args:
            x: The features of the nodes, `(nodes, in_channels)`.
            adjacency: The edges.
            segments: Which node belongs to which graph.
            edge_features: The edge features, `(edges, edge_channels)`, in the edge order of the
                adjacency; used by GINE only.
            factors: The subgraph factors of the nodes, `(nodes,)`, for SuperNorm; if needed but not
                given, they are computed on the host, which is slow.
        """
        config = self.config
        if factors is None and "factors" in self.needs:
            factors = subgraph_factors(adjacency, level=config.head)
        context = GraphContext(
            adjacency,
            segments,
            types=x.argmax(1) if "types" in self.needs else None,
            condition=readout(x, segments, "mean") if "condition" in self.needs else None,
            factors=factors,
            edge_features=edge_features,
        )
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

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the model."""
        return self.head.weight.dtype

    def num_parameters(self) -> int:
        """Count the parameters."""
        return sum(parameter.numel() for parameter in self.parameters())
