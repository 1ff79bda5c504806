"""Mean and variance of every graph, from which those of all rows and of batches follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphnorms.kernels.point import in_float64
from graphnorms.models.readout import readout
from graphnorms.segments import Segments


@dataclass(frozen=True, slots=True, eq=False)
class GraphMoments:
    """The first two moments of the rows of every graph, 0 of a graph without rows.

    Args:
        rows: Rows of each graph, `(graphs,)` float64.
        mean: Their mean, `(graphs, channels)` float64.
        variance: Their variance around it, with 1/n, `(graphs, channels)` float64.
    """

    rows: Tensor
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, x: Tensor, segments: Segments) -> GraphMoments:
        """Compute them.

        Args:
            x: The rows, `(rows, channels)`.
            segments: Which row belongs to which graph.
        """
        wide = in_float64(x.detach())
        if wide.device != segments.device:
            segments = segments.to(wide.device)
        mean = readout(wide, segments, "mean")
        variance = readout((wide - mean[segments.index]).square(), segments, "mean")
        return cls(segments.counts.to(wide), mean, variance)

    @classmethod
    def joined(cls, parts: Sequence[GraphMoments]) -> GraphMoments:
        """Return those of the graphs of several batches."""
        return cls(
            torch.cat([part.rows for part in parts]),
            torch.cat([part.mean for part in parts]),
            torch.cat([part.variance for part in parts]),
        )

    @property
    def whole_mean(self) -> Tensor:
        r"""The mean $\mu$ of all rows, `(channels,)`."""
        return self._over_rows(self.mean)

    @property
    def whole_variance(self) -> Tensor:
        r"""The variance $\sigma^2$ of all rows, `(channels,)`."""
        return self._over_rows(self.second_moment)

    @property
    def second_moment(self) -> Tensor:
        r"""The mean of $(x - \mu)^2$ over the rows of each graph, `(graphs, channels)`."""
        return self.variance + (self.mean - self.whole_mean).square()

    @property
    def between(self) -> Tensor:
        r"""The share of $\sigma^2$ that is between graphs, `(channels,)`; NaN where it is 0."""
        whole = self.whole_variance
        share = self._over_rows((self.mean - self.whole_mean).square()) / whole
        return torch.where(whole > 0, share, torch.nan)

    def _over_rows(self, of_graphs: Tensor) -> Tensor:
        return (self.rows.unsqueeze(1) * of_graphs).sum(0) / self.rows.sum()
