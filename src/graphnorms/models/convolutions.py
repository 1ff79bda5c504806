"""Graph convolutions of the form H' = F(Norm(W · H · Q)), the norm an argument of each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.kernels import aggregate
from graphnorms.segments import Segments

NormFactory = Callable[[int], nn.Module]
"""Makes the normalization, followed by ReLU, of so many channels."""


class GCNConv(nn.Module):
    r"""GCN with normalization: $H' = \mathrm{ReLU}(\mathrm{Norm}(W H Q))$.

    $Q = D^{-1/2} (A + I) D^{-1/2}$ with $D$ the degrees of $A + I$.

    Shapes: `x` `(nodes, in_channels)`, the result `(nodes, out_channels)`.

    Args:
        in_channels, out_channels: Width of the features before and after.
        norm: Makes the normalization with its ReLU.

    Source: Kipf & Welling 2017, https://arxiv.org/abs/1609.02907.
    """

    def __init__(self, in_channels: int, out_channels: int, norm: NormFactory) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)
        self.norm = norm(out_channels)

    def forward(self, x: Tensor, adjacency: Adjacency, segments: Segments) -> Tensor:
        """Convolve the features of a batch of graphs."""
        node_scale = torch.rsqrt(adjacency.in_degree.to(x.dtype) + 1)
        x = aggregate(self.linear(x), adjacency, self_weight=1.0, node_scale=node_scale)
        y: Tensor = self.norm(x, segments)
        return y


class GINConv(nn.Module):
    r"""GIN with normalization: $H' = F(\mathrm{Norm}(W H Q))$, $Q = A + (1 + \varepsilon) I$.

    $F$ is ReLU, then Linear, Norm and ReLU once more: the MLP of GIN, its first Linear being
    $W$, with a normalization behind each Linear.

    Shapes: `x` `(nodes, in_channels)`, the result `(nodes, out_channels)`.

    Args:
        in_channels, out_channels: Width of the features before and after.
        norm: Makes a normalization with its ReLU.
        self_weight: $1 + \varepsilon$.

    Source: Xu et al. 2019, https://arxiv.org/abs/1810.00826.
    """

    def __init__(
        self, in_channels: int, out_channels: int, norm: NormFactory, self_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.self_weight = self_weight
        self.linear = nn.Linear(in_channels, out_channels)
        self.norm = norm(out_channels)
        self.linear2 = nn.Linear(out_channels, out_channels)
        self.norm2 = norm(out_channels)

    def forward(self, x: Tensor, adjacency: Adjacency, segments: Segments) -> Tensor:
        """Convolve the features of a batch of graphs."""
        x = aggregate(x, adjacency, self_weight=self.self_weight)
        x = self.norm(self.linear(x), segments)
        y: Tensor = self.norm2(self.linear2(x), segments)
        return y
