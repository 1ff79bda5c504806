"""Learning curves of several trials: their mean, with a band of one standard deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CURVES: Final = ("train_score", "validation_score", "train_loss", "validation_loss")
"""Quantities with learning curves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """A quantity after each epoch; NaN where no trial has it.

    Args:
        mean: Over the trials, `(epochs,)`.
        low, high: One standard deviation (over n) to either side of the mean, cut to what trials
            reached, so that no accuracy passes 1 and no loss 0.
    """

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def curve_of(values: NDArray[np.float64]) -> Curve:
    """Summarize the curves of trials, `(trials, epochs)`; NaN is left out."""
    mean = column_mean(values)
    deviation = np.sqrt(column_mean((values - mean) ** 2))
    known = ~np.isnan(values)
    least = np.where(known, values, math.inf).min(axis=0, initial=math.inf)
    most = np.where(known, values, -math.inf).max(axis=0, initial=-math.inf)
    return Curve(
        mean=mean, low=np.maximum(mean - deviation, least), high=np.minimum(mean + deviation, most)
    )


def column_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over trials, NaN left out; NaN where no trial has a value. `(trials, n) -> (n,)`."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    mean: NDArray[np.float64] = np.full(total.shape, math.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def padded(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    """Stack rows of different lengths; a journal stores NaN as null."""
    result = np.full((len(rows), max(map(len, rows), default=0)), math.nan)
    for line, row in zip(result, rows, strict=True):
        line[: len(row)] = [math.nan if value is None else value for value in row]
    return result
