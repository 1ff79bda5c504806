"""AdjaNorm: normalizes each node by the mean and variance of its neighbourhood."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.point import accumulation_dtype, check_residual
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.base import Norm
from graphnorms.layers.neighbourhoods import check_adjacency, targets
from graphnorms.layers.norm_options import PlainOptions
from graphnorms.segments import Segments


class AdjaNorm(Norm):
    r"""Normalize each node by the entries of itself and its neighbours, all channels together.

    With $\mathcal N(i)$ the node $i$ and the sources of the edges that end in it, and $C$
    channels,

    $$ \mu_i = \frac{1}{|\mathcal N(i)| C} \sum_{j \in \mathcal N(i)} \sum_c x_{jc}, \quad
       \sigma_i^2 = \frac{1}{|\mathcal N(i)| C} \sum_{j \in \mathcal N(i)} \sum_c
         (x_{jc} - \mu_i)^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + \varepsilon}} + \beta\Big). $$

    For a node without edges the result is that of LayerNorm; in a complete graph it is that of
    LayerNorm in mode `"graph"`. Repeated edges count repeatedly, and a self loop counts the node
    once more. There are no running statistics.

    The authors' code divides by $\sigma + \varepsilon$ with the unbiased $\sigma$; this layer uses
    the biased variance and adds $\varepsilon$ under the root. In the authors' code, which uses DGL,
    a node without incoming edges gets mean and deviation 0, so its result is $x_i / \varepsilon$,
    100,000 times too large; here the node is normalized alone.

    Shapes: `x` and the result `(nodes, channels)`; `weight` and `bias` `(channels,)`.
    Precision: statistics in float32 or wider, computed from the mean and variance of each row, so
    that no tensor of edges × channels is needed; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        activation, dropout, device, dtype: See `Norm`.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `x` is not `(nodes, in_channels)`, or
            `adjacency` is missing or has another number of nodes.

    Source: Chen et al. 2020, *Learning graph normalization for graph neural networks*,
    https://arxiv.org/abs/2009.11746, and `AdjaNodeNorm` in `norm/adjance_norm.py` of
    cyh1112/GraphNormalization at d6f4231, where a node belongs to its own neighbourhood.
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
        """Normalize `x` by the neighbours; `batch` is accepted and ignored.

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
        # Per row: an entry p, the mean relative to p, and the variance.
        pivot = x[:, :1].detach()
        relative = x - pivot
        mean = relative.mean(1, keepdim=True)
        relative = relative - mean
        variance = relative.square().mean(1)  # (nodes,)
        mean, pivot = mean[:, 0], pivot[:, 0]

        i, j = targets(adjacency), adjacency.index  # (edges,) each
        weight = None if mask is None else mask.to(x.dtype)[j]
        count = 1 + _sum_at(i, x.new_ones(i.shape), weight, x)  # the node itself is one
        # Mean of row j minus mean of row i, computed from small differences.
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
    """Sum the values of the edges that end in each node, `(nodes,)`."""
    values = values if weight is None else values * weight
    return like.new_zeros(like.shape[0]).index_add(0, index, values)
