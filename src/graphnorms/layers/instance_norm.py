"""InstanceNorm: each channel over the nodes of each graph."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from graphnorms.kernels.point import Averages, Over, Point
from graphnorms.kernels.primitive import Statistics
from graphnorms.layers.argument_checks import check_momentum
from graphnorms.layers.base import Given, Norm
from graphnorms.layers.norm_options import NormOptions, place
from graphnorms.layers.running_statistics import (
    add_averages,
    reset_averages,
    update_running,
)
from graphnorms.segments import Segments, as_segments


class InstanceNorm(Norm):
    r"""Normalize each channel over the nodes of each graph.

    For a graph with node set $V$, independently in every channel,

    $$ \mu = \tfrac{1}{|V|} \sum_{i \in V} x_i, \quad
       \sigma^2 = \tfrac{1}{|V|} \sum_{i \in V} (x_i - \mu)^2, \quad
       y_i = f\Big(\gamma \, \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}} + \beta\Big). $$

    For a graph of one node, and for a channel that is constant within a graph, the result is
    $\beta$.

    With `track_running_stats`, `eval()` uses running averages. They differ from PyG's: graphs are
    weighted by their number of nodes, not equally with empty ones included; the buffers are updated
    in place, without an autograd graph; the counter is updated; `momentum=None` works. The running
    mean is that of all nodes, the running variance $\sum_g |V_g| \sigma_g^2 / \sum_g (|V_g| - 1)$;
    for graphs of one size both are PyG's.

    Shapes: `x` and the result `(nodes, channels)`; `weight`, `bias`, `running_mean` and
    `running_var` `(channels,)`. Precision: statistics and running averages in float32 or wider,
    under `.half()` too; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        eps: $\varepsilon$, in the squared unit of `x`.
        momentum: Weight of the new batch in the running averages; `None` for a cumulative average.
        affine: Whether to learn $\gamma$ and $\beta$.
        bias: Whether to learn $\beta$; `affine=False` turns it off, too.
        track_running_stats: Whether to keep running averages and use them in `eval()`.
        activation, dropout, device, dtype, backend: See `Norm`.
        process_group: Ranks over which every graph is spread, with the same id on each: `"world"`,
            a `ProcessGroup`, or `None` if every rank has whole graphs.
        whole_graphs: With a `process_group`: its ranks have whole graphs and share only the running
            averages.

    Raises:
        ValueError: `in_channels` or `eps` is not positive, `momentum` is outside 0 … 1, `x` is
            not `(nodes, in_channels)`, or `batch` does not assign exactly the rows of `x`.

    Source: Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022, as in torch_geometric 2.8
    (726310a), with the same parameter and buffer names: its checkpoints load unchanged.
    """

    point = Point(Over.NODES, Over.NODES, "graph")
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        in_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        whole_graphs: bool = False,
        **options: Unpack[NormOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        check_momentum(momentum)
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.whole_graphs = whole_graphs
        self._add_parameters(in_channels, options, weight=affine, bias=affine and bias)
        add_averages(self, (in_channels,), wanted=track_running_stats, **place(options))

    @property
    def num_features(self) -> int:
        """The number of channels, under torch's name."""
        return int(self.in_channels)

    @property
    def _one_call(self) -> bool:
        """With running averages it is more."""
        return not self.track_running_stats

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the counter to 0."""
        reset_averages(self)

    def reset_parameters(self) -> None:
        """Set `weight` to 1 and `bias` to 0, and reset the running statistics."""
        self.reset_running_stats()
        super().reset_parameters()

    def _compute(self, x: Tensor, given: Given, residual: Tensor | None, channels: int) -> Tensor:
        batch, batch_size, mask = given
        if self.whole_graphs:  # every rank has different graphs
            segments = as_segments(batch, rows_of=x, num_segments=batch_size, mask=mask)
        else:
            segments = self._graphs(x, given)
        mean, var = self.running_mean, self.running_var
        tracked = self.track_running_stats and mean is not None
        if tracked and not self.training and mean is not None and var is not None:
            affine = (self.weight, self.bias, self.eps)
            return self._by_averages(x, residual, mask, Averages(mean, var), affine)
        y, statistics = self._normalize(
            x,
            segments,
            self.equation(x, segments, channels),
            residual,
            statistics=tracked,
            whole=self.whole_graphs,
        )
        if statistics is not None and (x.shape[0] or self._ranks is not None):
            self._track(segments, statistics)
        return y

    def _track(self, segments: Segments, statistics: Statistics) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        mean = statistics.mean()
        of_all = segments.counts if statistics.counts is None else statistics.counts
        counts = of_all.to(mean.dtype).unsqueeze(1)  # (graphs, 1)
        parts = [
            counts.sum(0),
            (counts - 1).clamp(min=0).sum(0),
            (mean * counts).sum(0),
            (statistics.moment() * counts).sum(0),
        ]
        sums = torch.cat(parts)  # (2 + 2 channels,)
        if self.whole_graphs and self._ranks is not None:
            sums = self._ranks.total(sums)
        rows, free, total, squares = sums.split((1, 1, self.in_channels, self.in_channels))
        update_running(
            self.running_mean,
            self.running_var,
            self.num_batches_tracked,
            total / rows.clamp(min=1),
            squares / free.clamp(min=1),
            self.momentum,
            rows,
        )
