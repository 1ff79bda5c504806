"""AdjaNorm: each node by the mean and spread of its neighbourhood."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.point import accumulation_dtype, check_residual
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_features
from graphnorms.layers.neighbourhoods import check_adjacency, targets
from graphnorms.layers.options import PlainOptions
from graphnorms.segments import Segments


class AdjaNorm(Norm):
    r"""Normalize each node by the entries of itself and its neighbours, all channels together.

    With $\mathcal N(i)$ the node $i$ and the sources of the edges that end in it, and $C$
    channels,

    $$ \mu_i = \frac{1}{|\mathcal N(i)| C} \sum_{j \in \mathcal N(i)} \sum_c x_{jc}, \quad
       \sigma_i^2 = \frac{1}{|\mathcal N(i)| C} \sum_{j \in \mathcal N(i)} \sum_c
         (x_{jc} - \mu_i)^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + \varepsilon}} + \beta\Big). $$

    A node without edges is normalized alone, as by LayerNorm; in a complete graph every node by
    the same statistics, as by LayerNorm of the graph. Edges count as often as they occur, and a
    loop counts the node once more. There are no running statistics.

    The authors' code divides by $\sigma + \varepsilon$ with the unbiased $\sigma$; here it is
    the variance of all entries, and $\varepsilon$ stands as in every layer. In DGL, in which it is
    written, a node in which no edge ends gets 0 for mean and spread, and so comes out as
    $x_i / \varepsilon$, 100,000 times as large; here it is normalized alone.

    Shapes: `x` and the result `(nodes, channels)`; `weight` and `bias` `(channels,)`.
    Precision: statistics in float32 or wider, by the means and spreads of the rows, so that
    nothing of the size of edges × channels is made; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether $\beta$ is among them.
        activation, dropout, device, dtype: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `x` is not `(nodes, in_channels)`, or
            `adjacency` is missing or not that of the nodes.

    Source: Chen et al. 2020, *Learning graph normalization for graph neural networks*,
    https://arxiv.org/abs/2009.11746, and `AdjaNodeNorm` in `norm/adjance_norm.py` of
    cyh1112/GraphNormalization at d6f4231, from which it is that the node itself belongs to its
    neighbourhood.
    """

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        **options: Unpack[PlainOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        self.affine = affine
        self._add_parameters(in_channels, options, weight=affine, bias=affine and bias)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
        adjacency: Adjacency | None = None,
    ) -> Tensor:
        """Normalize `x` by the neighbours; `batch` makes no difference and is not looked at.

        Args:
            x: The features.
            batch, batch_size: Taken like every layer's.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are and are
                nobody's neighbours.
            adjacency: The edges.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        edges = check_adjacency(adjacency, x)
        return self._transformed(x, residual, mask, lambda x: self._by_neighbours(x, edges, mask))

    def _by_neighbours(self, x: Tensor, adjacency: Adjacency, mask: Tensor | None) -> Tensor:
        x = x.to(accumulation_dtype(x.dtype))
        # Of each row alone: an entry p, the mean relative to it, and the variance.
        pivot = x[:, :1].detach()
        relative = x - pivot
        mean = relative.mean(1, keepdim=True)
        relative = relative - mean
        variance = relative.square().mean(1)  # (nodes,)
        mean, pivot = mean[:, 0], pivot[:, 0]

        i, j = targets(adjacency), adjacency.index  # (edges,) each
        weight = None if mask is None else mask.to(x.dtype)[j]
        count = 1 + _sum_at(i, x.new_ones(i.shape), weight, x)  # the node itself is one
        # How far the mean of row j lies from that of row i: small against p.
        apart = (pivot[j] - pivot[i]) + (mean[j] - mean[i])
        shift = _sum_at(i, apart, weight, x) / count  # (nodes,)
        spread = variance + shift.square()
        spread = spread + _sum_at(i, variance[j] + (apart - shift[i]).square(), weight, x)
        rstd = torch.rsqrt(spread / count + self.eps)
        y = (relative - shift.unsqueeze(1)) * rstd.unsqueeze(1)
        if self.weight is not None:
            y = y * self.weight.to(x.dtype)
        return y if self.bias is None else y + self.bias.to(x.dtype)

    def _own_repr(self) -> str:
        return f"{self.in_channels}, affine={self.affine}"


def _sum_at(index: Tensor, values: Tensor, weight: Tensor | None, like: Tensor) -> Tensor:
    """The sum of the values of the edges that end in each node, `(nodes,)`."""
    values = values if weight is None else values * weight
    return like.new_zeros(like.shape[0]).index_add(0, index, values)
