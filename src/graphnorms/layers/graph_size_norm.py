"""GraphSizeNorm: divides every node by the root of the size of its graph."""

from __future__ import annotations

from typing import Unpack

from torch import Tensor

from graphnorms.kernels.point import Point, accumulation_dtype
from graphnorms.layers.base import Equation, Norm
from graphnorms.layers.norm_options import NormOptions
from graphnorms.segments import Segments


class GraphSizeNorm(Norm):
    r"""Divide every node by the root of the number of nodes in its graph.

    For a graph with node set $V$,

    $$ y_i = f\big(x_i / \sqrt{|V|}\big). $$

    The factor does not depend on the features. There are no parameters and no running statistics.
    The layer accepts any number of channels.

    Differs from PyG in half precision, where PyG counts nodes in the dtype of `x`: beyond 65504
    nodes the count overflows in float16.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`. Precision: counts
    are integers, the factor is in float32 or wider; the result has the dtype of `x`.

    Args:
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `x` is not `(nodes, channels)`, or `batch` does not assign exactly the rows
            of `x`.

    Source: Dwivedi et al. 2020, https://arxiv.org/abs/2003.00982, as in torch_geometric 2.8
    (726310a).
    """

    point = Point(None, None, "graph")
    takes_positions = True

    def __init__(self, **options: Unpack[NormOptions]) -> None:
        super().__init__(None, **options)

    def equation(self, x: Tensor, segments: Segments, channels: int) -> Equation:
        """Return the gain of each graph as a weight per segment."""
        counts = segments.counts if self._ranks is None else self._ranks.total(segments.counts)
        counts = counts.clamp(min=1).to(accumulation_dtype(x.dtype))
        gain = counts.rsqrt().unsqueeze(1).expand(-1, x.shape[1])  # (graphs, channels)
        return self.point, None, gain, None, 0.0
