"""MeanSubtractionNorm: each graph centred, and nothing else."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels import Over
from graphnorms.kernels.problem import check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_features
from graphnorms.segments import Segments


class MeanSubtractionNorm(Norm):
    r"""Subtract from each channel its mean over the nodes of the graph.

    For a graph with node set $V$,

    $$ y_i = f\Big(x_i - \tfrac{1}{|V|} \sum_{j \in V} x_j\Big). $$

    A graph of one node gives $f(0)$. Nothing is divided: the spread of the features stays. There
    are neither parameters nor running statistics. It takes any number of channels.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`. Precision: the mean
    in float32 or wider; the result has the dtype of `x`.

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

    Source: Yang et al. 2020, https://arxiv.org/abs/2003.13663, as in torch_geometric 2.8 (726310a).
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
        dim_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Centre the graphs of `x`; `batch` names the graph of every node (`None`: one).

        Args:
            x: The features.
            batch, dim_size: The graph of every node and how many there are, by PyG's name, or a
                `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, None, positions=True)
        check_residual(residual, x)
        segments = self._graphs(x, batch, dim_size, mask, ("batch", "dim_size"))
        y, _ = self._normalize(
            x.flatten(1), segments, None if residual is None else residual.flatten(1),
            center=Over.NODES, scale=None, weight=None, bias=None, eps=0.0,
        )  # fmt: skip
        return y.view(x.shape)
