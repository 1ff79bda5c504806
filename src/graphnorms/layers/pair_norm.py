"""PairNorm: centres and scales each graph so that the mean distance of its nodes is fixed."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor

from graphnorms.kernels.point import Over, Point, accumulation_dtype
from graphnorms.layers.argument_checks import check_scale
from graphnorms.layers.base import Equation, Given, Norm
from graphnorms.layers.norm_options import NormOptions
from graphnorms.layers.row_norm import row_norm
from graphnorms.segments import Segments


class PairNorm(Norm):
    r"""Centre each graph, then scale it to a fixed mean squared distance of its nodes.

    For a graph with node set $V$ and $\mu = \tfrac{1}{|V|} \sum_{i \in V} x_i$,

    $$ y_i = f\Big(s \, \frac{x_i - \mu}
       {\sqrt{\varepsilon + \tfrac{1}{|V|} \sum_{j \in V} \lVert x_j - \mu \rVert^2}}\Big). $$

    With `scale_individually` every node is scaled by its own norm,
    $y_i = f\big(s (x_i - \mu) / (\varepsilon + \lVert x_i - \mu \rVert)\big)$; with
    `simultaneously` the uncentred node is scaled, and the mean of the input is subtracted,
    $y_i = f\big(s \, x_i / \sqrt{\varepsilon + \lVert x_i \rVert^2} - \mu\big)$. The latter is in
    the authors' code ("PN-SCS", with $\varepsilon = 10^{-6}$), but neither in the paper nor in PyG.

    A graph of one node gives $f(0)$, except with `simultaneously`. There are no parameters and no
    running statistics. The layer accepts any number of channels.

    Differs from PyG for `(nodes, …, channels)` without `batch`, where PyG computes one mean squared
    norm of all positions, and so gives another result than for `batch=zeros`.

    Shapes: `x` and the result `(nodes, channels)`, or `(nodes, …, channels)`, where every
    position between is normalized separately. Precision: statistics in float32 or wider; the result
    has the dtype of `x`.

    Args:
        scale: $s$.
        scale_individually: Whether each node is scaled by its own norm.
        eps: $\varepsilon$, in the squared unit of `x`, or with `scale_individually` in its unit.
        simultaneously: Whether to scale and centre the input independently instead of in sequence.
        activation, dropout, device, dtype, backend, process_group: See `Norm`.

    Raises:
        ValueError: `scale` or `eps` is not positive, both kinds of scaling are requested, `x` is
            not `(nodes, channels)`, or `batch` does not assign exactly the rows of `x`.

    Source: Zhao & Akoglu, ICLR 2020, https://arxiv.org/abs/1909.12223, as in torch_geometric 2.8
    (726310a); `simultaneously` from `layers.py` of LingxiaoShawn/PairNorm at 62360d3. With
    `scale_individually` that code divides by $\sqrt{\varepsilon + \lVert x_i - \mu \rVert^2}$, and
    it has $\varepsilon = 10^{-6}$ in all three modes.
    """

    point = Point(Over.NODES, Over.BOTH, "graph")
    takes_positions = True

    def __init__(
        self,
        scale: float = 1.0,
        scale_individually: bool = False,
        eps: float = 1e-5,
        *,
        simultaneously: bool = False,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(None, eps=eps, **options)
        check_scale(scale)
        if scale_individually and simultaneously:
            raise ValueError(
                "scale_individually and simultaneously are both True, expected at most one"
            )
        self.scale = scale
        self.scale_individually = scale_individually
        self.simultaneously = simultaneously

    @property
    def _one_call(self) -> bool:
        """Only the paper's form."""
        return not (self.scale_individually or self.simultaneously)

    def equation(self, x: Tensor, segments: Segments, channels: int) -> Equation:
        """Return the point with one group per position.

        sqrt(eps + |o|²) = sqrt(C) sqrt(eps / C + mean(o²)) for C channels.
        """
        gain = x.new_full(
            (x.shape[1],), self.scale / math.sqrt(channels), dtype=accumulation_dtype(x.dtype)
        )
        groups = x.shape[1] // channels
        point = self.point if groups == 1 else self.point._replace(groups=groups)
        return point, None, gain, None, self.eps / channels

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        if self._one_call:
            return super()._compute(x, given, residual, channels)
        segments = self._graphs(x, given)
        return self._transformed(
            x, residual, given[2], lambda x: self._by_row(x, segments, channels)
        )

    def _by_row(self, x: Tensor, segments: Segments, channels: int) -> Tensor:
        x = x.to(accumulation_dtype(x.dtype))
        point = Point(Over.NODES, None, "graph")
        centred, _ = self._normalize(x, segments, (point, None, None, None, self.eps), plain=True)
        rows = x if self.simultaneously else centred
        rows = rows.view(x.shape[0], x.shape[1] // channels, channels)
        if self.scale_individually:
            return (rows * (self.scale / (self.eps + row_norm(rows)))).flatten(1)
        squared = rows.square().sum(-1, keepdim=True)  # (nodes, positions, 1)
        scaled = rows * (self.scale * torch.rsqrt(self.eps + squared))
        return scaled.flatten(1) - (x - centred)
