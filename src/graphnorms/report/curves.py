"""The figures of what changes along an axis: learning curves, and scores by learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import (
    BasicTickFormatter,
    ColumnDataSource,
    FixedTicker,
    LinearAxis,
    LogAxis,
    LogTicker,
)
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from graphnorms.lab.trials import NormTrials
from graphnorms.report import labels, marks
from graphnorms.report.series import CURVES, curve_columns
from graphnorms.report.style import style_of

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict


def learning_curves(trials: Mapping[str, NormTrials], verdict: Verdict) -> dict[str, figure]:
    """Draw the curves of all norms: a line for the mean over trials, a band for ± one deviation.

    The four figures share one source per norm, see `graphnorms.report.series`, whose columns
    `epoch`, `step` and `seconds` the page's script exchanges.

    Args:
        trials: Trials per norm; those without a done trial have no curve.
        verdict: Gives the order of the norms, and the one whose line is thicker: the recommended.
    """
    scale = verdict.scale
    sources = {
        row.norm: marks.source(
            {name: x.astype(np.float32) for name, x in curve_columns(of_norm, scale).items()}
        )
        for row in verdict.rows
        if (of_norm := trials[row.norm]).done
    }
    return {quantity: _curves_of(quantity, sources, verdict) for quantity in CURVES}


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
    for one in found:
        places = [place for place, score in enumerate(one.scores) if score is not None]
        style = style_of(one.norm)
        means = [scale.factor * (one.scores[place] or 0.0) for place in places]
        line = plot.line(
            x=[grid[place] for place in places],
            y=means,
            line_color=style.color,
            line_width=3 if one.norm == verdict.recommended else 2,
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
                "norm": [labels.of_norm(one.norm, verdict)] * len(places),
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


def _curves_of(quantity: str, sources: Mapping[str, ColumnDataSource], verdict: Verdict) -> figure:
    scale = verdict.scale
    is_loss = quantity.endswith("loss")
    label = labels.of_curve(quantity, scale)
    plot = marks.frame(x_label="Epoch", y_label=label, height=300, log_y=is_loss)
    plot.tags = ["curve", "loss"] if is_loss else ["curve"]
    marks.add_hidden_axis(plot, LogAxis(axis_label="Epoch"), "below")
    if is_loss:
        plot.yaxis.ticker = plot.ygrid.ticker = LogTicker(mantissas=[1, 2, 5])
        plot.yaxis.formatter = BasicTickFormatter(use_scientific=False)
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
            line_width=3 if norm == verdict.recommended else 2,
            line_dash=style.dash,
            name=labels.of_norm(norm, verdict),
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
