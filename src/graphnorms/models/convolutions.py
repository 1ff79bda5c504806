"""Graph convolutions of the form H' = F(Norm(W · H · Q)), with the norm as an argument."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphnorms.kernels import aggregate
from graphnorms.kernels.aggregation.operands import Weights
from graphnorms.models.linear import Linear
from graphnorms.models.norm_slot import GraphContext, NormFactory
from graphnorms.models.one_node import Part, in_one_node


class GlorotLinear(Linear):
    """A Linear with Glorot's uniform initialization."""

    def reset_parameters(self) -> None:
        """Draw the weights."""
        nn.init.xavier_uniform_(self.weight)


@torch.no_grad()
def scale_weights(factor: float, *linears: nn.Linear) -> None:
    """Multiply the weights of some Linears."""
    for linear in linears:
        linear.weight.mul_(factor)


class GCNConv(nn.Module):
    r"""GCN with normalization: $H' = \mathrm{ReLU}(\mathrm{Norm}(W H Q + b \mathbf 1^\top))$.

    $Q = D^{-1/2} (A + I) D^{-1/2}$ with $D$ the degrees of $A + I$. With edge weights $A$ holds the
    weights and $D$ their sums; if a sum is not positive, $D^{-1/2}$ is 0 there. $W$ has Glorot's
    uniform initialization, and $b$ is initialized to 0. `linear.weight` and `bias` correspond to
    `lin.weight` and `bias` of PyG's `GCNConv`.

    Shapes: `x` `(nodes, in_channels)`, `edge_weight` `(edges,)`, the result
    `(nodes, out_channels)`.

    Args:
        in_channels, out_channels: Width of the features before and after.
        norm: Makes the normalization with its ReLU, a `NormSlot`.

    Source: Kipf & Welling 2017, https://arxiv.org/abs/1609.02907, and their code; PyG and DGL use
    the same bias and initialization.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.linear = GlorotLinear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.norm = norm(out_channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the bias to 0; `linear` resets its weights."""
        nn.init.zeros_(self.bias)

    def shrink(self, factor: float) -> None:
        """Multiply the weights, as DeepNorm's initialization does."""
        scale_weights(factor, self.linear)

    def forward(
        self,
        x: Tensor,
        context: GraphContext,
        *,
        edge_weight: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Convolve the features of a batch of graphs, optionally with edge weights."""
        parts = self.parts(x, context, edge_weight)
        if (found := in_one_node(x, context, residual, parts)) is not None:
            return found
        source, weights = x, parts[1]
        x = aggregate(self.linear(x), context.adjacency, **weights._asdict())
        x = x + self.bias.to(x.dtype)
        y: Tensor = self.norm(x, context, source=source, residual=residual)
        return y

    def parts(
        self, x: Tensor, context: GraphContext, edge_weight: Tensor | None = None
    ) -> tuple[nn.Module, Weights, Tensor, nn.Module]:
        """Return what runs one behind the other; see `in_one_node`."""
        adjacency = context.adjacency
        if edge_weight is None:
            scale = torch.rsqrt(adjacency.in_degree.to(x.dtype) + 1)
        else:
            ones = edge_weight.new_ones((adjacency.num_nodes, 1))
            degree = aggregate(ones, adjacency, self_weight=1.0, edge_weight=edge_weight)[:, 0]
            scale = torch.where(degree > 0, degree, torch.inf).rsqrt()  # (nodes,)
        return self.linear, Weights(scale, edge_weight, self_weight=1.0), self.bias, self.norm


class GINConv(nn.Module):
    r"""GIN with normalization: $H' = F(\mathrm{Norm}(W H Q))$, $Q = A + (1 + \varepsilon) I$.

    $F$ is ReLU followed by Linear, Norm and ReLU: the MLP of GIN with first Linear $W$ and a
    normalization after each Linear.

    Shapes: `x` `(nodes, in_channels)`, the result `(nodes, out_channels)`.

    Args:
        in_channels, out_channels: Width of the features before and after.
        norm: Makes a normalization with its ReLU, a `NormSlot`.
        self_weight: $1 + \varepsilon$.

    Source: Xu et al. 2019, https://arxiv.org/abs/1810.00826.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: NormFactory, self_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.self_weight = self_weight
        self.linear = Linear(in_channels, out_channels)
        self.norm = norm(out_channels)
        self.linear2 = Linear(out_channels, out_channels)
        self.norm2 = norm(out_channels)

    def forward(
        self, x: Tensor, context: GraphContext, *, residual: Tensor | None = None
    ) -> Tensor:
        """Convolve the features of a batch of graphs."""
        if (found := in_one_node(x, context, residual, self.parts(x, context))) is not None:
            return found
        gathered = aggregate(x, context.adjacency, self_weight=self.self_weight)
        return self.transformed(gathered, x, context, residual)

    def parts(self, x: Tensor, context: GraphContext) -> tuple[Part, ...]:
        """Return what runs one behind the other; see `in_one_node`."""
        return Weights(self_weight=self.self_weight), *self._mlp()

    def transformed(
        self, gathered: Tensor, x: Tensor, context: GraphContext, residual: Tensor | None
    ) -> Tensor:
        """Apply the MLP to the sums over neighbours of `x`."""
        if (found := in_one_node(gathered, context, residual, self._mlp())) is not None:
            return found
        hidden = self.norm(self.linear(gathered), context, source=x)
        y: Tensor = self.norm2(self.linear2(hidden), context, source=x, residual=residual)
        return y

    def shrink(self, factor: float) -> None:
        """Multiply the weights of the MLP, as DeepNorm's initialization does."""
        scale_weights(factor, self.linear, self.linear2)

    def _mlp(self) -> tuple[nn.Module, ...]:
        return self.linear, self.norm, self.linear2, self.norm2


class GINEpsilonConv(GINConv):
    r"""GIN with a learned $\varepsilon$ in $Q = A + (w + \varepsilon) I$; else as `GINConv`.

    `eps`, `(1,)`, begins at 0; $w$ is `self_weight`, 1 in the paper.

    Source: Xu et al. 2019, https://arxiv.org/abs/1810.00826, GIN-ε; `train_eps` of PyG's `GINConv`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: NormFactory, self_weight: float = 1.0
    ) -> None:
        super().__init__(in_channels, out_channels, norm, self_weight)
        self.eps = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        """Set ε to 0; the Linears reset their own weights."""
        nn.init.zeros_(self.eps)

    def forward(
        self, x: Tensor, context: GraphContext, *, residual: Tensor | None = None
    ) -> Tensor:
        """Convolve the features of a batch of graphs."""
        gathered = aggregate(x, context.adjacency, self_weight=self.self_weight)
        gathered = gathered + self.eps.to(x.dtype) * x
        return self.transformed(gathered, x, context, residual)


class GINEConv(GINConv):
    r"""GINE with normalization: GIN with edge features in its messages.

    $H' = F(\mathrm{Norm}(W S))$ with
    $S_i = (1 + \varepsilon) x_i + \sum_{j \to i} \mathrm{ReLU}(x_j + V e_{ji} + b)$, where a Linear
    maps the edge features $e$ to the width of `x`. $F$ is that of `GINConv`.

    Shapes: `x` `(nodes, in_channels)`, the edge features `(edges, edge_channels)`, the result
    `(nodes, out_channels)`.

    Args:
        in_channels, out_channels: Width of the features before and after.
        norm: Makes a normalization with its ReLU, a `NormSlot`.
        edge_channels: Width of the edge features.
        self_weight: $1 + \varepsilon$.

    Source: Hu et al. 2020, https://arxiv.org/abs/1905.12265.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: NormFactory,
        edge_channels: int,
        self_weight: float = 1.0,
    ) -> None:
        super().__init__(in_channels, out_channels, norm, self_weight)
        self.edge_linear = Linear(edge_channels, in_channels)

    def forward(
        self, x: Tensor, context: GraphContext, *, residual: Tensor | None = None
    ) -> Tensor:
        """Convolve the features of a batch of graphs, with the edge features of the context."""
        if context.edge_features is None:
            raise ValueError("the graphs have no edge features, which GINE needs; use GIN")
        edges = self.edge_linear(context.edge_features)
        gathered = gine_sum(x, edges, context, self.self_weight)
        return self.transformed(gathered, x, context, residual)


def gine_sum(x: Tensor, edges: Tensor, context: GraphContext, self_weight: float) -> Tensor:
    """Sum GINE's messages; `edges` are the features of the edges in the width of `x`."""
    # Under autocast the Linear of the edges returns another dtype than x has in the first layer.
    edges = edges.to(x.dtype)
    return aggregate(x, context.adjacency, self_weight=self_weight, edge_features=edges)


class SAGEConv(nn.Module):
    r"""GraphSAGE with normalization: $H' = \mathrm{ReLU}(\mathrm{Norm}(W H Q + U H + b))$.

    $Q$ is the mean over the neighbours, 0 for a node without neighbours. `linear` is $W$ and
    `linear_self` $U$ and $b$: `lin_l.weight`, `lin_r.weight` and `lin_l.bias` of PyG's `SAGEConv`.
    The rows of the result are not divided by their length.

    Shapes: `x` `(nodes, in_channels)`, the result `(nodes, out_channels)`.

    Args:
        in_channels, out_channels: Width of the features before and after.
        norm: Makes the normalization with its ReLU, a `NormSlot`.

    Source: Hamilton et al. 2017, https://arxiv.org/abs/1706.02216, with the mean aggregator, as in
    torch_geometric 2.8.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.linear = Linear(in_channels, out_channels, bias=False)
        self.linear_self = Linear(in_channels, out_channels)
        self.norm = norm(out_channels)

    def shrink(self, factor: float) -> None:
        """Multiply the weights, as DeepNorm's initialization does."""
        scale_weights(factor, self.linear, self.linear_self)

    def forward(
        self, x: Tensor, context: GraphContext, *, residual: Tensor | None = None
    ) -> Tensor:
        """Convolve the features of a batch of graphs."""
        mean = aggregate(self.linear(x), context.adjacency)
        mean = mean / context.adjacency.in_degree.clamp(min=1).to(mean.dtype).unsqueeze(1)
        y: Tensor = self.norm(mean + self.linear_self(x), context, source=x, residual=residual)
        return y
