"""Models for graph- and node-level tasks, with the normalization as an argument."""

from __future__ import annotations

import functools
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.factory import needs_of
from graphnorms.layers.inner_batch_norm import is_called_plainly
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.layers.super_norm import subgraph_factors
from graphnorms.models.attention import Blocks
from graphnorms.models.convolutions import (
    GCNConv,
    GINConv,
    GINEConv,
    GINEpsilonConv,
    SAGEConv,
)
from graphnorms.models.edge_rows import EdgeRows
from graphnorms.models.gat import GATConv
from graphnorms.models.gated_gcn import GatedGCNConv
from graphnorms.models.gps import GPSLayer
from graphnorms.models.initialize import initialize
from graphnorms.models.linear import Linear
from graphnorms.models.model_config import SAME, ModelConfig
from graphnorms.models.norm_slot import (
    NORM_PLACES,
    GraphContext,
    NormFactory,
    NormSlot,
    check_sizes,
)
from graphnorms.models.one_node import Part, in_one_node
from graphnorms.models.readout import readout
from graphnorms.segments import Segments

_WITH_ROWS: Final = ("gat", "gatedgcn")
"""Models with a row per edge."""


class GNN(nn.Module):
    """Convolutions or blocks with normalization, a readout, and one Linear.

    Models of blocks begin with a Linear to their width, and before a readout have another and a
    ReLU: after a norm that centers each graph, the sum over its nodes would be 0. GatedGCN begins
    with a Linear for the edges, which are all 1 if they have no features.

    Args:
        config: The architecture.
        norm: The normalization as text: its catalogue name, optionally with arguments after a
            colon; or a user-defined one. For norms with node types, the type is the largest input
            feature (the label of one-hot features); for norms with a condition, it is the mean
            input of the graph.
        in_channels: Features of a node.
        out_channels: Outputs per graph, or per node with the head `"node"`.
        edge_channels: Features of an edge; used by `EDGE_MODELS` only.
        seed: Seed of the initial weights; each depends on the seed and its name only.

    Raises:
        ValueError: The norm is unknown, a number is not positive, the model is GINE and edges have
            no features, or it is GatedGCN and the norm of the edges needs their neighbours.
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
        needs = {*needs_of(norm)}
        check_sizes(in_channels=in_channels, out_channels=out_channels)
        if config.name == "gine" and edge_channels < 1:
            raise ValueError(
                "the graphs have no edge features, which the model 'gine' needs; use 'gin'"
            )
        self.config = config
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.edge_channels = edge_channels
        hidden = config.hidden
        make = self._slots(norm)
        self.encoder = Linear(in_channels, hidden) if config.is_blocks else None
        self.edge_encoder: nn.Linear | None = None
        make_edges: NormFactory | None = None
        if config.name == "gatedgcn":
            self.edge_encoder = Linear(max(edge_channels, 1), hidden)
            of_edges = norm if config.edge_norm in (None, SAME) else config.edge_norm
            make_edges = self._slots(of_edges, of_edges=True)
            needs |= {*needs_of(of_edges)}
        self.needs = needs
        self.convolutions = nn.ModuleList()
        for layer in range(config.layers):
            width = in_channels if layer == 0 and self.encoder is None else hidden
            last = layer == config.layers - 1
            self.convolutions.append(
                _convolution(config, width, edge_channels, make, None if last else make_edges)
            )
        self.norm = make(hidden) if config.is_blocks and not config.sums_before_norm else None
        self.residual_scale, factor = config.deepnorm
        self.gains: nn.Parameter | None = None
        if config.is_rezero and not config.is_blocks:
            self.gains = nn.Parameter(torch.zeros(config.layers - 1, 1 + (make_edges is not None)))
        pools_blocks = config.is_blocks and config.head == "graph"
        self.decoder = Linear(hidden, hidden) if pools_blocks else None
        self.head = Linear(hidden, out_channels)
        initialize(self, seed)
        if factor != 1:
            # The first convolution has no residual sum.
            convolutions: Any = self.convolutions[0 if config.is_blocks else 1 :]
            for convolution in convolutions:
                convolution.shrink(factor)

    def _slots(self, norm: str | OwnNorm, *, of_edges: bool = False) -> NormFactory:
        """Return what makes the normalizations of the model for a number of channels."""
        config = self.config
        return functools.partial(
            NormSlot,
            norm,
            eps=config.eps_of(norm),
            place=NORM_PLACES[0] if config.is_blocks else config.norm_place,
            residual_place="before-norm" if config.sums_before_norm else "after-norm",
            num_types=self.in_channels,
            condition_channels=self.in_channels,
            level=config.head,
            activation=None if config.is_blocks else "relu",
            of_edges=of_edges,
        )

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
                adjacency; used by `EDGE_MODELS` only.
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
            edge_rows=EdgeRows.of(adjacency, segments) if config.name in _WITH_ROWS else None,
            blocks=Blocks.of(segments) if config.is_blocks else None,
        )
        if self.encoder is not None:
            x = self.encoder(x)
            for block in self.convolutions:
                x = block(x, context)
            x = x if self.norm is None else self.norm(x, context, source=x)
        elif self.edge_encoder is not None:
            x = self._convolved_with_edges(x, context)
        elif (found := self._convolved_in_one_node(x, context)) is not None:
            x = found
        else:
            for layer, convolution in enumerate(self.convolutions):
                y = convolution(x, context, residual=self._residual(layer, x))
                x = self._joined(layer, x, y)
        if self.decoder is not None:
            x = self.decoder(x).relu()
        if config.head == "graph":
            x = readout(x, segments, config.readout)
        if config.dropout_on == "features":
            x = F.dropout(x, config.dropout, self.training)
        logits: Tensor = self.head(x)
        if config.dropout_on == "logits":
            logits = F.dropout(logits, config.dropout, self.training)
        return logits

    def _convolved_in_one_node(self, x: Tensor, context: GraphContext) -> Tensor | None:
        """Run all convolutions as one node, see `in_one_node`; `None` if that cannot be."""
        if self.config.residual:
            return None
        parts: list[Part] = []
        convolution: Any
        for convolution in self.convolutions:
            if type(convolution) not in (GCNConv, GINConv) or not is_called_plainly(convolution):
                return None
            parts += convolution.parts(x, context)
        return in_one_node(x, context, None, parts)

    def _convolved_with_edges(self, x: Tensor, context: GraphContext) -> Tensor:
        """Apply convolutions that keep features of the edges."""
        rows, given = context.edge_rows, context.edge_features
        assert rows is not None
        assert self.edge_encoder is not None
        if given is None:
            if self.edge_channels:
                raise ValueError(
                    "the graphs have no edge features, which this GatedGCN was built for"
                )
            given = x.new_ones((context.adjacency.num_edges, 1))
        edges = rows.sorted(self.edge_encoder(given))
        for layer, convolution in enumerate(self.convolutions):
            y, e = convolution(
                x,
                edges,
                context,
                residual=self._residual(layer, x),
                edge_residual=self._residual(layer, edges),
            )
            x, edges = self._joined(layer, x, y), self._joined(layer, edges, e, 1)
        return x

    def _residual(self, layer: int, x: Tensor) -> Tensor | None:
        """Return what the last norm of a convolution adds."""
        if not (self.config.residual and layer) or self.gains is not None:
            return None
        return x if self.residual_scale == 1 else self.residual_scale * x

    def _joined(self, layer: int, x: Tensor, y: Tensor, of: int = 0) -> Tensor:
        """Add ReZero's share of the result of a convolution, or return the result."""
        if self.gains is None or not layer:
            return y
        return x + self.gains[layer - 1, of].to(y.dtype) * y

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the model."""
        return self.head.weight.dtype

    def num_parameters(self) -> int:
        """Count the parameters."""
        return sum(parameter.numel() for parameter in self.parameters())


def _convolution(
    config: ModelConfig,
    width: int,
    edge_channels: int,
    norm: NormFactory,
    edge_norm: NormFactory | None,
) -> nn.Module:
    """Make a convolution from `width` channels, or a block."""
    name, hidden = config.name, config.hidden
    if name == "gps":
        return GPSLayer(config, norm, edge_channels)
    if name == "gatedgcn":
        return GatedGCNConv(width, hidden, norm, edge_norm)
    if name == "gat":
        assert config.heads is not None
        return GATConv(
            width,
            hidden,
            norm,
            heads=config.heads,
            edge_channels=edge_channels,
            dropout=config.attention_dropout or 0.0,
        )
    if name == "sage":
        return SAGEConv(width, hidden, norm)
    if name == "gin":
        gin = GINEpsilonConv if config.train_eps else GINConv
        return gin(width, hidden, norm, config.self_weight)
    if name == "gine":
        return GINEConv(width, hidden, norm, edge_channels, config.self_weight)
    return GCNConv(width, hidden, norm)
