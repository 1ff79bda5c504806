"""The figures of what changes along an axis: learning curves, and scores by learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker, LinearAxis, LogAxis
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure
from numpy.typing import NDArray

from graphnorms.lab.outcomes import Trials, column_mean
from graphnorms.lab.scale import Scale
from graphnorms.report import labels, marks
from graphnorms.report.style import style_of

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict

CURVES = ("train_score", "validation_score", "train_loss", "validation_loss")
"""What has learning curves."""

MOST_EPOCHS = 400


def learning_curves(trials: Mapping[str, Trials], scale: Scale) -> dict[str, figure]:
    """Draw the curves of all norms: a line for the mean over trials, a band for ± one deviation.

    The band is cut to what trials really reached, so that no accuracy passes 100% and no loss 0.
    The four figures share one source per norm, whose columns `epoch`, `step` and `seconds` the
    page's script exchanges; more than `MOST_EPOCHS` epochs are thinned.

    Args:
        trials: Trials per norm; those without a done trial have no curve.
        scale: How scores are shown.
    """
    sources = {
        norm: _curve_source(of_norm, scale) for norm, of_norm in trials.items() if of_norm.done
    }
    return {quantity: _curves_of(quantity, sources, scale) for quantity in CURVES}


def rate_sensitivity(verdict: Verdict) -> figure:
    """Draw the mean validation score of every learning rate; large marks are the norms' best.

    A hollow mark has trials that failed, which are left out of the mean.
    """
    scale = verdict.scale
    found = [row.sensitivity for row in verdict.rows if row.sensitivity is not None]
    plot = marks.frame(
        x_label="Learning rate (log)",
        y_label=labels.axis(f"Validation {scale.metric.title}", scale.score_unit, scale),
        height=360,
        log_x=True,
    )
    grid = found[0].rates if found else ()
    plot.xaxis.ticker = plot.xgrid.ticker = FixedTicker(ticks=list(grid))
    plot.xaxis.major_label_overrides = {rate: f"{rate:g}" for rate in grid}
    shown = []
    for one in sorted(found, key=lambda one: one.norm):
        places = [place for place, score in enumerate(one.scores) if score is not None]
        style = style_of(one.norm)
        means = [scale.factor * (one.scores[place] or 0.0) for place in places]
        line = plot.line(
            x=[grid[place] for place in places],
            y=means,
            line_color=style.color,
            line_width=2,
            line_dash=style.dash,
        )
        marks.tag(line, one.norm)
        source = marks.source(
            {
                "rate": [grid[place] for place in places],
                "score": means,
                "size": [13 if grid[place] == one.best else 7 for place in places],
                "fill": [0.0 if one.failed[place] else 0.9 for place in places],
                "trials": [
                    f"{one.done[place]} done"
                    + (f", {one.failed[place]} failed" if one.failed[place] else "")
                    for place in places
                ],
                "norm": [style.name] * len(places),
                "chosen": [dict(one.chosen).get(grid[place], 0) for place in places],
            }
        )
        dots = plot.scatter(
            x="rate",
            y="score",
            size="size",
            fill_alpha="fill",
            source=source,
            marker=style.marker,
            fill_color=style.color,
            line_color=style.color,
            line_width=1.5,
        )
        shown.append(marks.tag(dots, one.norm))
    marks.hover(
        plot,
        shown,
        [
            ("", "@norm at @rate{0.[00000]}"),
            ("mean", f"@score{labels.form(scale)}{labels.after(scale.score_unit)}"),
            ("trials", "@trials"),
            ("then used in", "@chosen trials"),
        ],
    )
    return plot


def _curves_of(quantity: str, sources: Mapping[str, ColumnDataSource], scale: Scale) -> figure:
    is_loss = quantity.endswith("loss")
    part = "Training" if quantity.startswith("train") else "Validation"
    if is_loss:
        label = f"{part} loss{' (nats)' if scale.metric.fraction else ''}"
    else:
        label = labels.axis(f"{part} {scale.metric.title}", scale.score_unit, scale)
    plot = marks.frame(x_label="Epoch", y_label=label, height=300, log_y=is_loss)
    plot.tags = ["curve", "loss"] if is_loss else ["curve"]
    marks.add_hidden_axis(plot, LogAxis(axis_label="Epoch"), "below")
    if is_loss:
        marks.add_hidden_axis(plot, LinearAxis(axis_label=label), "left")
    low, high = f"{quantity}_low", f"{quantity}_high"
    lines: list[GlyphRenderer[Any]] = []
    for norm, source in sources.items():
        style = style_of(norm)
        band = plot.varea(
            x="epoch", y1=low, y2=high, source=source, fill_color=style.color, fill_alpha=0.13
        )
        marks.tag(band, norm)
        line = plot.line(
            x="epoch",
            y=quantity,
            source=source,
            line_color=style.color,
            line_width=2,
            line_dash=style.dash,
            name=style.name,
        )
        lines.append(marks.tag(line, norm))
    form, unit = (
        ("{0.0000}", "") if is_loss else (labels.form(scale), labels.after(scale.score_unit))
    )
    marks.hover(
        plot,
        lines,
        [
            ("", "$name"),
            ("epoch", "@epoch{0} (step @step{0}, @seconds{0.00} s)"),
            ("mean", f"@{quantity}{form}{unit}"),
            ("± std", f"@{low}{form} to @{high}{form}{unit}"),
        ],
    )
    return plot


def _curve_source(of_norm: Trials, scale: Scale) -> ColumnDataSource:
    epochs = max(of_norm.curves(quantity).shape[1] for quantity in CURVES)
    kept = np.unique(np.linspace(0, epochs - 1, min(epochs, MOST_EPOCHS)).round().astype(int))
    record = next(iter(of_norm.done.values()))
    columns = {
        "epoch": kept + 1.0,
        "step": (kept + 1.0) * record.counts.get("steps_per_epoch", 1),
        "seconds": _at(column_mean(of_norm.seconds()), kept),
    }
    for quantity in CURVES:
        curves = of_norm.curves(quantity)
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
    return marks.source({name: values.astype(np.float32) for name, values in columns.items()})


def _at(values: NDArray[np.float64], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Take the kept epochs of a curve that may be shorter, or missing."""
    result = np.full(kept.shape, math.nan)
    inside = kept < values.size
    result[inside] = values[kept[inside]]
    return result
