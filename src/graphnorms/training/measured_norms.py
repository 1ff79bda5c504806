"""What a norm has been given, and what it has made of it, in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.kernels.point import in_float64
from graphnorms.probes import GraphMoments, expected_batch_noise, explained
from graphnorms.segments import Segments

CONSTANT: Final = 1e-3
"""Deviation behind a norm up to which a channel is constant, relative to γ or to its size."""

ROUNDING: Final = 1e3
"""Deviation in front of it up to which a channel is constant, in rounding errors of its size."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Moments in front of a norm and behind it, before activation and residual sum.

    Args:
        before, after: In front and behind.
        highest: Largest value of each channel behind it, `(channels,)`.
        gamma: Its γ, if it has one per channel.
        precision: Relative rounding error of the dtype.
    """

    before: GraphMoments
    after: GraphMoments
    highest: Tensor
    gamma: Tensor | None
    precision: float

    @classmethod
    def of(cls, x: Tensor, y: Tensor, segments: Segments, gamma: Tensor | None) -> Seen:
        """Compute them for a batch."""
        one_each = gamma is not None and gamma.shape == y.shape[1:]
        return cls(
            GraphMoments.of(x, segments),
            GraphMoments.of(y, segments),
            y.detach().amax(0),
            in_float64(gamma.detach()).abs() if gamma is not None and one_each else None,
            torch.finfo(x.dtype).eps,
        )

    @classmethod
    def joined(cls, parts: Sequence[Seen]) -> Seen:
        """Return those of several batches."""
        return cls(
            GraphMoments.joined([part.before for part in parts]),
            GraphMoments.joined([part.after for part in parts]),
            torch.stack([part.highest for part in parts]).amax(0),
            parts[0].gamma,
            parts[0].precision,
        )

    def noise(self, batch_size: int, population: int) -> dict[str, float]:
        """How noisy batches of so many of the graphs are; nothing for a single graph."""
        if self.before.rows.shape[0] < 2:
            return {}
        noise = expected_batch_noise(self.before, batch_size, population)
        return {
            "batch_noise": finite_mean(noise.mean_ratio),
            "scale_noise": finite_mean(noise.deviation_ratio),
            "design_effect": finite_mean(noise.design_effect),
            "between_graphs": finite_mean(self.before.between),
        }

    def explained(self, label: Any) -> dict[str, float]:
        """Which share of the variance of the label means of graphs explain."""
        in_front = ROUNDING * self.precision * _size(self.before)
        behind = CONSTANT * self._size_after
        return {
            "mean_label": _explained(self.before.mean, label, in_front),
            "mean_label_after": _explained(self.after.mean, label, behind),
        }

    def channels(self) -> dict[str, float]:
        """Shares of channels that are constant behind the norm, and 0 behind a ReLU."""
        constant = self.after.whole_variance.sqrt() <= CONSTANT * self._size_after
        return {
            "constant": float(constant.double().mean()),
            "dead": float((self.highest <= 0).double().mean()),
        }

    @property
    def _size_after(self) -> Tensor:
        # What is behind a norm may be nothing but rounding errors, which γ is not.
        size = _size(self.after)
        return size if self.gamma is None else torch.maximum(size, self.gamma.to(size.device))


def finite_mean(values: Tensor) -> float:
    """Return the mean of the finite values, NaN if there is none."""
    values = values[values.isfinite()]
    return float(values.mean()) if values.numel() else math.nan


def _size(moments: GraphMoments) -> Tensor:
    """The root mean square of each channel, `(channels,)`."""
    return (moments.whole_mean.square() + moments.whole_variance).sqrt()


def _explained(means: Tensor, label: Any, constant: Tensor) -> float:
    """Which share means explain, without the channels that vary by no more than `constant`."""
    if not means.isfinite().all():
        return math.nan
    varies = means.std(0, correction=0) > constant
    return explained(means[:, varies].cpu().numpy(), label) if varies.any() else 0.0
