"""The GCN of Luo, Shi & Wu (2024), with the norm as an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.models.convolutions import GCNConv
from graphnorms.models.linear import Linear
from graphnorms.models.norm_slot import GraphContext
from graphnorms.segments import Segments


class TunedGCN(nn.Module):
    r"""GCN with dropout in every layer: $H' = \mathrm{Drop}(\mathrm{ReLU}(\mathrm{Norm}(Z)))$.

    $Z = Q H W + b$, with `residual` plus a Linear of $H$ itself; a Linear at the end.

    Shapes: `x` `(nodes, in_channels)`, the result `(nodes, out_channels)`.

    Args:
        in_channels, out_channels: Features of a node, and results for it.
        norm: Makes the normalization of a width.
        hidden, layers, dropout: Width, number of convolutions, probability.
        residual: Whether a convolution adds a Linear of its input.

    Source: Luo, Shi & Wu 2024, https://arxiv.org/abs/2406.08993, and their code.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: Callable[[int], nn.Module],
        hidden: int,
        layers: int,
        dropout: float,
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        widths = [in_channels] + [hidden] * (layers - 1)
        nothing: Any = _Nothing
        self.convolutions = nn.ModuleList(GCNConv(width, hidden, nothing) for width in widths)
        self.linears = nn.ModuleList(Linear(width, hidden) for width in widths if residual)
        self.norms = nn.ModuleList(norm(hidden) for _ in widths)
        self.head = Linear(hidden, out_channels)
        self.dropout = dropout

    def forward(self, x: Tensor, adjacency: Adjacency, segments: Segments) -> Tensor:
        """Return the logits of every node."""
        context = GraphContext(adjacency, segments)
        batch = segments.as_batch()
        for layer, (convolution, norm) in enumerate(
            zip(self.convolutions, self.norms, strict=True)
        ):
            z = convolution(x, context)
            if self.linears:
                z = z + self.linears[layer](x)
            x = F.dropout(F.relu(norm(z, batch)), self.dropout, self.training)
        logits: Tensor = self.head(x)
        return logits


class _Nothing(nn.Module):
    """In place of the norm within a convolution: this model's stands behind its residual sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor, context: GraphContext, **others: Any) -> Tensor:
        return x


def plain_gcn(
    in_channels: int, out_channels: int, norm: Any, hidden: int, layers: int, dropout: float
) -> TunedGCN:
    """Make the model of Cora, CiteSeer and Chameleon."""
    return TunedGCN(in_channels, out_channels, norm, hidden, layers, dropout, residual=False)


def residual_gcn(
    in_channels: int, out_channels: int, norm: Any, hidden: int, layers: int, dropout: float
) -> TunedGCN:
    """Make the model of Squirrel and Minesweeper."""
    return TunedGCN(in_channels, out_channels, norm, hidden, layers, dropout, residual=True)
