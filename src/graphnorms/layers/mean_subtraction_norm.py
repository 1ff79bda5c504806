"""MeanSubtractionNorm: centres each graph without scaling it."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from graphnorms.kernels.point import Over, Point
from graphnorms.layers.base import Equation, Norm
from graphnorms.layers.norm_options import NormOptions
from graphnorms.segments import Segments


class MeanSubtractionNorm(Norm):
    r"""Subtract from each channel its mean over the nodes of the graph.

    For a graph with node set $V$,

    $$ y_i = f\Big(x_i - \tfrac{1}{|V|} \sum_{j \in V} x_j\Big). $$

    A graph of one node gives $f(0)$. The spread of the features is unchanged. There are no
    parameters and no running statistics. The layer accepts any number of channels.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`. Precision: the mean
    in float32 or wider; the result has the dtype of `x`.

    Args:
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `x` is not `(nodes, channels)`, or `batch` does not assign exactly the rows
            of `x`.

    Source: Yang et al. 2020, https://arxiv.org/abs/2003.13663, as in torch_geometric 2.8 (726310a).
    """

    point = Point(Over.NODES, None, "graph")
    takes_positions = True
    _one_call = True
    size_name = "dim_size"

    def __init__(self, **options: Unpack[NormOptions]) -> None:
        super().__init__(None, **options)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        dim_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Centre the graphs of `x`; see `Norm.forward`. PyG calls `batch_size` `dim_size` here."""
        return super().forward(x, batch, dim_size, residual=residual, mask=mask)

    def equation(self, x: Tensor, segments: Segments, channels: int) -> Equation:
        """Return the point without parameters."""
        return self.point, None, None, None, 0.0
