"""Learning curves, and the scores over the learning rates that were tried."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from graphnorms.lab.curves import CURVES
from graphnorms.report import labels, vega
from graphnorms.report.chart import Figure, Panel, Spec

if TYPE_CHECKING:
    from graphnorms.lab.trials import NormTrials
    from graphnorms.lab.verdict import Verdict

MOST_POINTS: Final = 1200
"""Points of all norms together in a figure."""

_COLUMNS: Final = ("epoch", "step", "seconds", "mean", "low", "high", "marked")
_UNITS: Final = {"epoch": "Epoch", "seconds": "Seconds of training"}


def learning_curves(
    trials: Mapping[str, NormTrials], verdict: Verdict, unit: str = "epoch"
) -> Figure:
    """Draw four panels: a line for the mean over trials, a band for one deviation to each side.

    Args:
        trials: Those of each norm; norms without a done trial have no curve.
        verdict: Gives the order of the norms, and the one whose line is thicker: the recommended.
        unit: Column of the horizontal axis: `"epoch"` or `"seconds"`.
    """
    done = [row.norm for row in verdict.rows if trials[row.norm].done]
    return Figure(
        name="learning_curves" if unit == "epoch" else "learning_curves_by_second",
        panels=tuple(
            _curves(quantity, {norm: trials[norm] for norm in done}, verdict, unit)
            for quantity in CURVES
        ),
        legend=vega.legend(labels.of_norms(verdict, done)),
    )


def _curves(quantity: str, trials: Mapping[str, NormTrials], verdict: Verdict, unit: str) -> Panel:
    names, label = labels.of_norms(verdict), labels.of_curve(quantity, verdict.scale)
    is_loss = quantity.endswith("loss")
    number = ".4f" if is_loss else labels.form(verdict.scale)
    ends = (f"format(datum.{end}, '{number}')" for end in ("low", "high"))
    band = {"calculate": " + ' to ' + ".join(ends), "as": "band"}
    scale = vega.LOG | {"padding": 0} if is_loss else {"zero": False}
    spec = {
        "height": 240,
        "data": {"values": curve_rows(quantity, trials, verdict)},
        "transform": [{"flatten": _COLUMNS}, *vega.shown(names), band],
        "encoding": {
            "x": vega.quantity(unit, _UNITS[unit], zero=False, nice=False),
            "y": vega.quantity("mean", label, **scale),
            "color": vega.color(names),
        },
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.13},
                "encoding": {"y": vega.quantity("low"), "y2": {"field": "high"}},
            },
            vega.lines(names, verdict.recommended),
            {
                "transform": [{"filter": "datum.marked > 0"}],
                "mark": {"type": "point", "filled": True, "opacity": 1, "size": 60},
                "encoding": {"shape": vega.shape(names)},
            },
        ],
    }
    tooltip = [
        vega.told("label", "norm"),
        *(vega.told(name, name, "~r") for name in ("epoch", "step")),
        vega.told("seconds", "seconds", ".2f"),
        vega.told("mean", label, number),
        vega.told("band", "± std"),
    ]
    part = "Training" if quantity.startswith("train") else "Validation"
    what = "loss" if is_loss else verdict.scale.metric.title
    return Panel(
        name=quantity,
        words=f"{part} {what} by epoch, one line for each of {labels.listed(verdict)}",
        spec=spec,
        controls=(vega.under_pointer(names, tooltip),),
    )


def curve_rows(quantity: str, trials: Mapping[str, NormTrials], verdict: Verdict) -> list[Spec]:
    """Return the curves of a quantity, a row per norm that holds one list per column.

    `epoch`, `step` and `seconds` are the ends of epochs; `mean`, `low` and `high` the curve and
    its band, as the scale of the verdict shows them. Where the norms have more than `MOST_POINTS`
    epochs together, they are thinned.
    """
    points = max(50, MOST_POINTS // len(verdict.rows))
    factor = 1.0 if quantity.endswith("loss") else verdict.scale.factor
    rows: list[Spec] = []
    for norm, of_norm in trials.items():
        last = of_norm.epochs - 1
        kept = np.unique(np.linspace(0, last, min(last + 1, points)).round().astype(int))
        steps = next(iter(of_norm.done.values())).counts.get("steps_per_epoch", 1)
        curve = of_norm.curve(quantity)
        columns = (
            (kept + 1).tolist(),
            ((kept + 1) * steps).tolist(),
            _at(of_norm.mean_seconds(), kept),
            *(_at(factor * line, kept) for line in (curve.mean, curve.low, curve.high)),
            [int(place % max(1, kept.size // 8) == 0) for place in range(kept.size)],
        )
        rows.append({"norm": norm, **dict(zip(_COLUMNS, columns, strict=True))})
    return rows


def _at(values: NDArray[np.float64], kept: NDArray[np.int64]) -> list[float | None]:
    """Return a curve at the kept epochs; None beyond its end."""
    there = (values[place] if place < values.size else math.nan for place in kept)
    return [None if math.isnan(value) else vega.rounded(value) for value in there]


def rate_sensitivity(verdict: Verdict) -> Figure:
    """Draw the mean validation score of every learning rate; large marks are the norms' best.

    Of a search, of every third of the learning rates.

    A hollow mark has trials that failed, which are left out of the mean.
    """
    scale, names = verdict.scale, labels.of_norms(verdict)
    found = [row.sensitivity for row in verdict.rows if row.sensitivity is not None]
    rows = [
        {
            "norm": one.norm,
            "rate": rate,
            "x": scale.factor * score,
            "best": rate == one.best,
            "failed": failed,
            "trials": f"{done} done" + (f", {failed} failed" if failed else ""),
            "chosen": dict(one.chosen).get(rate, 0),
        }
        for one in found
        for rate, score, done, failed in zip(
            one.rates, one.scores, one.done, one.failed, strict=True
        )
        if score is not None
    ]
    label = labels.axis(f"Validation {scale.metric.title}", scale.score_unit, scale)
    rate = vega.quantity("rate", "Learning rate (log)", **vega.LOG)
    rate["axis"] = {"format": "~g", "values": list(found[0].rates)}
    tooltip = [
        vega.told("label", "norm"),
        vega.told("rate", "learning rate", "~g"),
        vega.told("x", f"mean {label}", labels.form(scale)),
        vega.told("trials", "trials"),
        vega.told("chosen", "then used in trials"),
    ]
    dots = {
        "shape": vega.shape(names),
        "size": vega.either("datum.best", 170, 60),
        "fillOpacity": vega.either("datum.failed > 0", 0, 0.9),
        "tooltip": tooltip,
    }
    spec = {
        "height": 300,
        "data": {"values": rows},
        "transform": vega.shown(names),
        "encoding": {
            "x": rate,
            "y": vega.quantity("x", label, zero=False),
            "color": vega.color(names),
        },
        "layer": [
            vega.lines(names, verdict.recommended),
            {
                "params": [vega.ZOOM],
                "mark": {"type": "point", "filled": True, "opacity": 1},
                "encoding": dots | {"stroke": vega.color(names)},
            },
        ],
    }
    words = f"{label} by learning rate, one line for each of {labels.listed(verdict)}"
    panel = Panel(name="rate_sensitivity", words=words, spec=spec)
    return Figure(name="rate_sensitivity", panels=(panel,), legend=vega.legend(names))
