"""GraphSizeNorm: every node divided by the root of the size of its graph."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.problem import accumulation_dtype, check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_features
from graphnorms.segments import Segments


class GraphSizeNorm(Norm):
    r"""Divide every node by the root of the number of nodes in its graph.

    For a graph with node set $V$,

    $$ y_i = f\big(x_i / \sqrt{|V|}\big). $$

    The features have no part in the factor: nothing is measured of them, nothing is removed. There
    are neither parameters nor running statistics. It takes any number of channels.

    Differs from PyG in half precision, where PyG counts nodes in the dtype of `x`: a graph of
    more than 65504 nodes has infinitely many in float16.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`. Precision: counts
    are integers, the factor is in float32 or wider; the result has the dtype of `x`.

    Args:
        activation: $f$, fused into the same pass: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or
            `"silu"`.
        dropout: Share of the entries to drop in training, fused as well; nothing is stored.
        device, dtype: Taken like every layer's; there are no parameters.
        backend: `"auto"`, or one backend by name, which then never falls back.
        process_group: Ranks over which every graph is spread, graph by graph under the same id:
            `"world"`, a `ProcessGroup`, or `None` where a rank has whole graphs.

    Raises:
        ValueError: `x` is not `(nodes, channels)`, or `batch` does not assign exactly the rows
            of `x`.

    Source: Dwivedi et al. 2020, https://arxiv.org/abs/2003.00982, as in torch_geometric 2.8
    (726310a).
    """

    statistics_of = "graph"

    def __init__(
        self,
        *,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__(None, activation, dropout, backend)
        self.process_group = process_group

    def reset_parameters(self) -> None:
        """Do nothing: there are none."""

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Scale the graphs of `x`; `batch` names the graph of every node (`None`: one).

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, None, positions=True)
        check_residual(residual, x)
        segments = self._graphs(x, batch, batch_size, mask)
        flat = x.flatten(1)
        counts = segments.counts if self._ranks is None else self._ranks.total(segments.counts)
        counts = counts.clamp(min=1).to(accumulation_dtype(x.dtype))
        # A gain of each graph's own is a weight that the kernels know, with all they fuse.
        gain = counts.rsqrt().unsqueeze(1).expand(-1, flat.shape[1])  # (graphs, channels)
        y, _ = self._normalize(
            flat, segments, None if residual is None else residual.flatten(1),
            center=None, scale=None, weight=gain, bias=None, eps=0.0,
        )  # fmt: skip
        return y.view(x.shape)
