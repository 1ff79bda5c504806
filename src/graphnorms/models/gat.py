"""GAT: attention over the neighbours of a node."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.kernels import aggregate
from graphnorms.models.convolutions import GlorotLinear, scale_weights
from graphnorms.models.norm_slot import GraphContext, NormFactory

_SLOPE = 0.2


class GATConv(nn.Module):
    r"""GAT with normalization: $H' = \mathrm{ReLU}(\mathrm{Norm}(\Vert_k A^k W^k H + b))$.

    In head $k$ of `heads`, whose results stand side by side, with $h = W^k x$,

    $$ A_{ij} = \mathrm{softmax}_{j \in N(i) \cup \{i\}} \; \mathrm{LeakyReLU}_{0.2}\big(
       a \cdot h_i + b \cdot h_j + c \cdot e_{ji} \big). $$

    A node sees itself once, whether or not it has self loops; there $e_{ii}$ is the mean of the
    edges that end in $i$. Without edge features the last summand is left out.

    Shapes: `x` `(nodes, in_channels)`, edge features `(edges, edge_channels)`, the result
    `(nodes, out_channels)`. Parameters $a$, $b$: `target_weight`, `source_weight`
    `(heads, out_channels / heads)`, those of PyG's `GATConv`: `att_dst`, `att_src`; $c$ is its
    `lin_edge` and `att_edge` in one.

    Args:
        in_channels, out_channels: Width of the features before and after.
        norm: Makes the normalization with its ReLU, a `NormSlot`.
        heads: Number of heads, a divisor of `out_channels`.
        edge_channels: Width of the edge features; 0 if there are none.
        dropout: Dropout probability of the $A_{ij}$ in training.

    Source: Veličković et al. 2018, https://arxiv.org/abs/1710.10903; edge features and self loops
    as in torch_geometric 2.8.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: NormFactory,
        *,
        heads: int,
        edge_channels: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.linear = GlorotLinear(in_channels, out_channels, bias=False)
        self.source_weight = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.target_weight = nn.Parameter(torch.empty(heads, out_channels // heads))
        self.edge_linear = GlorotLinear(edge_channels, heads, bias=False) if edge_channels else None
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.norm = norm(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights of the attention, and set the bias to 0."""
        nn.init.xavier_uniform_(self.source_weight)
        nn.init.xavier_uniform_(self.target_weight)
        nn.init.zeros_(self.bias)

    def shrink(self, factor: float) -> None:
        """Multiply the weights, as DeepNorm's initialization does."""
        scale_weights(factor, self.linear)

    def forward(
        self, x: Tensor, context: GraphContext, *, residual: Tensor | None = None
    ) -> Tensor:
        """Convolve the features of a batch of graphs; the context has `edge_rows`."""
        source, rows = x, context.edge_rows
        assert rows is not None
        heads = self.linear(x).unflatten(1, (self.heads, -1))  # (nodes, heads, width)
        edge_share, own_share = self._attention(heads, context)
        edge_share = rows.numbered(F.dropout(edge_share, self.dropout, self.training))
        own_share = F.dropout(own_share, self.dropout, self.training)
        sums = [
            aggregate(heads[:, head], context.adjacency, edge_weight=edge_share[:, head])
            for head in range(self.heads)
        ]
        y = torch.stack(sums, dim=1) + own_share.to(heads.dtype).unsqueeze(2) * heads
        y = y.flatten(1) + self.bias.to(y.dtype)
        result: Tensor = self.norm(y, context, source=source, residual=residual)
        return result

    def _attention(self, heads: Tensor, context: GraphContext) -> tuple[Tensor, Tensor]:
        """Return the attention of each edge, by target, and of each node to itself."""
        rows = context.edge_rows
        assert rows is not None
        by_source = (heads * self.source_weight).sum(2)  # (nodes, heads)
        by_target = (heads * self.target_weight).sum(2)
        scores = by_source[rows.source] + by_target[rows.target]  # (edges, heads)
        own = by_source + by_target
        loops = (rows.source == rows.target).unsqueeze(1)  # the node itself counts once
        if self.edge_linear is not None:
            if context.edge_features is None:
                raise ValueError("the graphs have no edge features, which this GAT was built for")
            of_edges = rows.sorted(self.edge_linear(context.edge_features)).masked_fill(loops, 0)
            number = rows.sums((~loops).to(own.dtype)).clamp(min=1)  # (nodes, 1)
            scores = scores + of_edges
            own = own + rows.sums(of_edges) / number
        scores = F.leaky_relu(scores, _SLOPE).masked_fill(loops, -torch.inf)
        own = F.leaky_relu(own, _SLOPE)
        target = rows.target.unsqueeze(1).expand_as(scores)
        largest = own.detach().scatter_reduce(0, target, scores.detach(), "amax")
        edge_share = (scores - largest[rows.target]).exp()
        own_share = (own - largest).exp()
        total = own_share + rows.sums(edge_share)
        return edge_share / total[rows.target], own_share / total
