"""The numbers behind learning curves: means and bands over trials, thinned for display."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.lab.outcomes import Trials, column_mean
from graphnorms.lab.scale import Scale

CURVES: Final = ("train_score", "validation_score", "train_loss", "validation_loss")
"""What has learning curves."""

MOST_EPOCHS: Final = 400


def curve_columns(of_norm: Trials, scale: Scale) -> dict[str, NDArray[np.float64]]:
    """Return the curves of one norm as columns, one entry per epoch; NaN where none is known.

    `epoch`, `step` and `seconds` are the ends of epochs. Of every quantity in `CURVES` there is
    the mean over the done trials under its name, and with `_low` and `_high` behind it the band:
    one standard deviation (over n) to either side, cut to what trials reached, so that no
    accuracy passes 100% and no loss 0. Scores are in the unit in which `scale` shows them.
    More than `MOST_EPOCHS` epochs are thinned.

    Args:
        of_norm: Trials, one of them done.
        scale: How scores are shown.
    """
    epochs = max(of_norm.curves(quantity).shape[1] for quantity in CURVES)
    kept = np.unique(np.linspace(0, epochs - 1, min(epochs, MOST_EPOCHS)).round().astype(int))
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


def _at(values: NDArray[np.float64], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Take the kept epochs of a curve that may be shorter, or missing."""
    result = np.full(kept.shape, math.nan)
    inside = kept < values.size
    result[inside] = values[kept[inside]]
    return result
