"""Data of the figures: learning curves with their bands, thinned; scores by trial."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.lab.design import Pair
from graphnorms.lab.number_format import Scale
from graphnorms.lab.trials import NormTrials, column_mean, completed_by_all

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict

CURVES: Final = ("train_score", "validation_score", "train_loss", "validation_loss")
"""Quantities with learning curves."""

MOST_POINTS: Final = 1200
"""Points of all norms together in a figure."""


def curve_columns(
    of_norm: NormTrials, scale: Scale, *, norms: int
) -> dict[str, NDArray[np.float64]]:
    """Return the curves of one norm as columns, one entry per epoch; NaN where none is known.

    `epoch`, `step` and `seconds` are the ends of epochs. Of every quantity in `CURVES` there is
    the mean over the done trials under its name, and with `_low` and `_high` behind it the band:
    one standard deviation (over n) to either side, cut to what trials reached, so that no
    accuracy passes 100% and no loss 0. Scores are in the unit in which `scale` shows them.
    Where the norms have more than `MOST_POINTS` epochs together, they are thinned.

    Args:
        of_norm: NormTrials, one of them done.
        scale: How scores are shown.
        norms: How many share the figure.
    """
    epochs = max(of_norm.curves(quantity).shape[1] for quantity in CURVES)
    points = min(epochs, max(50, MOST_POINTS // norms))
    kept = np.unique(np.linspace(0, epochs - 1, points).round().astype(int))
    record = next(iter(of_norm.done.values()))
    columns = {
        "epoch": kept + 1.0,
        "step": (kept + 1.0) * record.counts.get("steps_per_epoch", 1),
        "seconds": _at(column_mean(of_norm.seconds()), kept),
    }
    for quantity in CURVES:
        curves = of_norm.curves(quantity)  # (trials, epochs)
        if quantity.endswith("loss"):
            curves[curves <= 0] = math.nan  # has no place on a logarithmic axis
        else:
            curves = scale.factor * curves
        mean = column_mean(curves)
        deviation = np.sqrt(column_mean((curves - mean) ** 2))
        known = ~np.isnan(curves)
        least = np.where(known, curves, math.inf).min(axis=0, initial=math.inf)
        most = np.where(known, curves, -math.inf).max(axis=0, initial=-math.inf)
        columns[quantity] = _at(mean, kept)
        columns[f"{quantity}_low"] = _at(np.maximum(mean - deviation, least), kept)
        columns[f"{quantity}_high"] = _at(np.minimum(mean + deviation, most), kept)
    return columns


def scores_of(trials: Mapping[str, NormTrials], verdict: Verdict) -> dict[str, dict[Pair, float]]:
    """Return the score of every trial, as `scale` shows it; norms by score, the best first."""
    return {
        row.norm: {pair: verdict.scale.factor * score for pair, score in of_norm.items()}
        for row in verdict.rows
        if (of_norm := trials[row.norm].scores())
    }


def differences_of(
    scores: Mapping[str, Mapping[Pair, float]], verdict: Verdict
) -> dict[str, dict[Pair, float]]:
    """Return, of every norm but the best, each trial's difference to the best one's on its fold.

    Only of the trials that the verdict counts: those that every contender completed.
    """
    if verdict.best is None:
        return {}
    counted, best = completed_by_all(scores, verdict.contenders), scores[verdict.best]
    return {
        norm: {pair: score - best[pair] for pair, score in of_norm.items() if pair in counted}
        for norm, of_norm in scores.items()
        if norm != verdict.best
    }


def _at(values: NDArray[np.float64], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return a curve at the kept epochs, NaN beyond its end."""
    result = np.full(kept.shape, math.nan)
    inside = kept < values.size
    result[inside] = values[kept[inside]]
    return result
