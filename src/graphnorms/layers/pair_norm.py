"""PairNorm: each graph centred and scaled as a whole, so that its nodes keep their distance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphnorms.kernels import Over
from graphnorms.kernels.api import normalize
from graphnorms.kernels.problem import accumulation_dtype, check_residual
from graphnorms.kernels.ranks import Group
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import check_eps, check_features, check_scale
from graphnorms.layers.row_norm import row_norm
from graphnorms.segments import Segments


class PairNorm(Norm):
    r"""Centre each graph, then scale it so that the mean squared distance of its nodes is fixed.

    For a graph with node set $V$ and $\mu = \tfrac{1}{|V|} \sum_{i \in V} x_i$,

    $$ y_i = f\Big(s \, \frac{x_i - \mu}
       {\sqrt{\varepsilon + \tfrac{1}{|V|} \sum_{j \in V} \lVert x_j - \mu \rVert^2}}\Big). $$

    With `scale_individually` every node is scaled by itself,
    $y_i = f\big(s (x_i - \mu) / (\varepsilon + \lVert x_i - \mu \rVert)\big)$; with
    `simultaneously` it is scaled without being centred, and the mean of what was given is
    subtracted, $y_i = f\big(s \, x_i / \sqrt{\varepsilon + \lVert x_i \rVert^2} - \mu\big)$. That
    one is in the authors' code only ("PN-SCS", with $\varepsilon = 10^{-6}$), not in the paper
    nor in PyG.

    A graph of one node gives $f(0)$, but for the last. There are neither parameters nor running
    statistics. It takes any number of channels.

    Differs from PyG for `(nodes, …, channels)` without `batch`, where PyG takes one mean squared
    norm of all positions, and so gives another result than for `batch=zeros`.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`, where every
    position between is normalized alone. Precision: statistics in float32 or wider; the result
    has the dtype of `x`.

    Args:
        scale: $s$.
        scale_individually: Whether each node is scaled by its own norm.
        eps: $\varepsilon$, in the squared unit of `x`, or with `scale_individually` in its unit.
        simultaneously: Whether to scale and centre what was given, instead of one after another.
        activation: $f$: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or `"silu"`; fused into the
            same pass where graphs are scaled as a whole.
        dropout: Share of the entries to drop in training.
        device, dtype: Taken like every layer's; there are no parameters.
        backend: `"auto"`, or one backend by name, which then never falls back.
        process_group: Ranks over which every graph is spread, graph by graph under the same id:
            `"world"`, a `ProcessGroup`, or `None` where a rank has whole graphs.

    Raises:
        ValueError: `scale` or `eps` is not positive, both kinds of scaling are asked for, `x` is
            not `(nodes, channels)`, or `batch` does not assign exactly the rows of `x`.

    Source: Zhao & Akoglu, ICLR 2020, https://arxiv.org/abs/1909.12223, as in torch_geometric 2.8
    (726310a); `simultaneously` from `layers.py` of LingxiaoShawn/PairNorm at 62360d3. With
    `scale_individually` that one has $\sqrt{\varepsilon + \lVert x_i - \mu \rVert^2}$ below, and
    $\varepsilon = 10^{-6}$ in all three.
    """

    statistics_of = "graph"

    def __init__(
        self,
        scale: float = 1.0,
        scale_individually: bool = False,
        eps: float = 1e-5,
        *,
        simultaneously: bool = False,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
        process_group: Group = None,
    ) -> None:
        super().__init__(None, activation, dropout, backend)
        check_scale(scale)
        check_eps(eps)
        if scale_individually and simultaneously:
            raise ValueError(
                "scale_individually and simultaneously are both True, expected one of them: "
                "they scale in different ways"
            )
        self.scale = scale
        self.scale_individually = scale_individually
        self.eps = eps
        self.simultaneously = simultaneously
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
        """Normalize the graphs of `x`; `batch` names the graph of every node (`None`: one).

        Args:
            x: The features.
            batch, batch_size: The graph of every node and how many there are, or a `Segments`.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are.
        """
        check_features(x, None, positions=True)
        check_residual(residual, x)
        segments = self._graphs(x, batch, batch_size, mask)
        shape, channels = x.shape, x.shape[-1]
        if len(shape) > 2:
            x = x.flatten(1)  # (nodes, positions * channels)
            residual = None if residual is None else residual.flatten(1)
        if self.scale_individually or self.simultaneously:
            y = self._finish(x, residual, mask, lambda x: self._by_row(x, segments, channels))
        else:
            # sqrt(eps + |o|²) = sqrt(C) sqrt(eps / C + mean(o²))
            gain = x.new_full(
                (x.shape[1],), self.scale / math.sqrt(channels), dtype=accumulation_dtype(x.dtype)
            )
            y, _ = self._normalize(
                x, segments, residual, center=Over.NODES, scale=Over.BOTH,
                groups=x.shape[1] // channels, weight=gain, bias=None, eps=self.eps / channels,
            )  # fmt: skip
        return y if len(shape) == 2 else y.view(shape)

    def _by_row(self, x: Tensor, segments: Segments, channels: int) -> Tensor:
        x = x.to(accumulation_dtype(x.dtype))
        centred, _ = normalize(
            x, segments, center=Over.NODES, scale=None, weight=None, bias=None, eps=self.eps,
            activation=None, dropout=0.0, seed=None, residual=None, backend=self.backend,
            ranks=self._ranks,
        )  # fmt: skip
        rows = x if self.simultaneously else centred
        rows = rows.view(x.shape[0], x.shape[1] // channels, channels)
        if self.scale_individually:
            return (rows * (self.scale / (self.eps + row_norm(rows)))).flatten(1)
        squared = rows.square().sum(-1, keepdim=True)  # (nodes, positions, 1)
        scaled = rows * (self.scale * torch.rsqrt(self.eps + squared))
        return scaled.flatten(1) - (x - centred)
