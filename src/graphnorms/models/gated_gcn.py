"""GatedGCN: gated messages, with features and a normalization of the edges too."""

from __future__ import annotations

from torch import Tensor, nn

from graphnorms.models.convolutions import scale_weights
from graphnorms.models.linear import Linear
from graphnorms.models.norm_slot import GraphContext, NormFactory

_EPS = 1e-6


class GatedGCNConv(nn.Module):
    r"""GatedGCN with a normalization of the nodes and one of the edges.

    $$ \hat e_{ji} = C e_{ji} + D x_i + E x_j, \quad
       \eta_{ji} = \frac{\sigma(\hat e_{ji})}{\sum_k \sigma(\hat e_{ki}) + 10^{-6}}, $$
    $$ x_i' = \mathrm{ReLU}\Big(\mathrm{Norm}\big(A x_i + \sum_j \eta_{ji} \odot B x_j\big)\Big),
       \quad e_{ji}' = \mathrm{ReLU}(\mathrm{Norm}_e(\hat e_{ji})), $$

    per channel; each of the five maps has a bias. To a norm of the edges, the edges of a graph are
    what its nodes are to that of the nodes.

    Shapes: `x` `(nodes, in_channels)`, the edges `(edges, out_channels)` in the order of
    `GraphContext.edge_rows`, the results `(nodes, out_channels)` and `(edges, out_channels)`.

    Args:
        in_channels, out_channels: Width of the nodes before, and of all else.
        norm: Makes the normalization of the nodes with its ReLU, a `NormSlot`.
        edge_norm: Makes that of the edges; `None` for a last layer, which returns no edges.

    Source: Bresson & Laurent 2017, https://arxiv.org/abs/1711.07553, in the form of Dwivedi et al.
    2020, https://arxiv.org/abs/2003.00982, as in `GatedGCNLayer` of rampasek/GraphGPS.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: NormFactory, edge_norm: NormFactory | None
    ) -> None:
        super().__init__()
        self.self_linear = Linear(in_channels, out_channels)  # A
        self.neighbour_linear = Linear(in_channels, out_channels)  # B
        self.edge_linear = Linear(out_channels, out_channels)  # C
        self.target_linear = Linear(in_channels, out_channels)  # D
        self.source_linear = Linear(in_channels, out_channels)  # E
        self.norm = norm(out_channels)
        self.norm_edges = None if edge_norm is None else edge_norm(out_channels)

    def shrink(self, factor: float) -> None:
        """Multiply the weights of the values, as DeepNorm's initialization does."""
        scale_weights(factor, self.self_linear, self.neighbour_linear)

    def forward(
        self,
        x: Tensor,
        edges: Tensor,
        context: GraphContext,
        *,
        residual: Tensor | None = None,
        edge_residual: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Convolve the nodes and edges of a batch of graphs; the context has `edge_rows`."""
        rows = context.edge_rows
        assert rows is not None
        gates = self.edge_linear(edges)  # (edges, out_channels)
        gates = gates + self.target_linear(x)[rows.target] + self.source_linear(x)[rows.source]
        share = gates.sigmoid()
        messages = rows.sums(share * self.neighbour_linear(x)[rows.source])
        y = self.self_linear(x) + messages / (rows.sums(share) + _EPS)
        y = self.norm(y, context, source=x, residual=residual)
        if self.norm_edges is not None:
            edges = self.norm_edges(gates, context.of_edges(), source=edges, residual=edge_residual)
        return y, edges
