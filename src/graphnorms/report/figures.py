"""The figures of the report: Bokeh models of aggregated records, without scripts of their own.

Names, colours and order come from `style`, the parts from `marks`. Accuracies are in percent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import ColumnDataSource, LinearAxis, LogAxis
from bokeh.models.annotations import BoxAnnotation, Span
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure
from numpy.typing import NDArray

from graphnorms.lab.outcomes import Fold, Trials, column_mean
from graphnorms.report import marks
from graphnorms.report.style import display_name, style_of

if TYPE_CHECKING:
    from graphnorms.lab.pairs import PairedTest
    from graphnorms.lab.speed import TimesToTarget
    from graphnorms.lab.verdict import Verdict

CURVES = {
    "train_accuracy": "Training accuracy (%)",
    "validation_accuracy": "Validation accuracy (%)",
    "train_loss": "Training loss (nats)",
    "validation_loss": "Validation loss (nats)",
}
"""What has learning curves, and what the vertical axes say."""

MOST_EPOCHS = 400
MOST_PAIRS = 15


def learning_curves(trials: Mapping[str, Trials]) -> dict[str, figure]:
    """Draw the curves of all norms: a line for the mean over folds, a band for ± one deviation.

    The band is cut to what folds really reached, so that no accuracy passes 100% and no loss 0.
    The four figures share one source per norm, whose columns `epoch`, `step` and `seconds` the
    page's script exchanges; more than `MOST_EPOCHS` epochs are thinned.

    Args:
        trials: Trials per norm; those without a done trial have no curve.
    """
    sources = {norm: _curve_source(of_norm) for norm, of_norm in trials.items() if of_norm.done}
    return {quantity: _curves_of(quantity, sources) for quantity in CURVES}


def accuracy_by_fold(trials: Mapping[str, Trials], verdict: Verdict) -> figure:
    """Draw the last validation accuracy of every fold, the same fold joined across norms."""
    scores = {
        row.norm: {fold: 100 * value for fold, value in last.items()}
        for row in verdict.rows
        if (last := trials[row.norm].last("validation_accuracy"))
    }
    norms = list(scores)
    plot = marks.rows(
        [display_name(norm) for norm in norms],
        x_label="Validation accuracy after the last epoch (%)",
        height=74,
    )
    lanes = marks.lanes({fold for of_norm in scores.values() for fold in of_norm})
    for place, (upper, lower) in enumerate(itertools.pairwise(norms)):
        shared = [fold for fold in lanes if fold in scores[upper] and fold in scores[lower]]
        joined = plot.segment(
            x0=[scores[upper][fold] for fold in shared],
            y0=[lanes[fold] - place for fold in shared],
            x1=[scores[lower][fold] for fold in shared],
            y1=[lanes[fold] - place - 1 for fold in shared],
            line_color=marks.NEUTRAL,
            line_alpha=0.35,
        )
        marks.tag(joined, upper, lower)
    shown = [
        _fold_points(plot, norm, place, scores[norm], lanes) for place, norm in enumerate(norms)
    ]
    for place, norm in enumerate(norms):
        accuracy = verdict.row(norm).validation_accuracy
        if accuracy is not None:
            ends = (accuracy.low, accuracy.mean, min(1.0, accuracy.high))
            marks.summary(plot, norm, place, *(100 * end for end in ends))
    marks.hover(plot, shown, [("", "@norm, fold @fold"), ("accuracy", "@x{0.0}%")])
    return plot


def time_to_target(times: Mapping[str, TimesToTarget], verdict: Verdict, unit: str) -> figure:
    """Draw when each fold reached the target, and the median below.

    Args:
        times: Times per norm.
        verdict: Gives the order of the norms and their medians.
        unit: `"steps"`, where misses stand hollow behind the end of the budget, or `"seconds"`.
    """
    norms = list(verdict.speed_order)
    label = "Optimizer steps" if unit == "steps" else "Seconds of training"
    measured = {n: times[n].steps if unit == "steps" else times[n].seconds for n in norms}
    plot = marks.rows(
        [display_name(norm) for norm in norms],
        x_label=f"{label} to the target (log)",
        height=74,
        log_values=[value for of_norm in measured.values() for value in of_norm.values()],
    )
    lanes = marks.lanes({fold for norm in norms for fold in times[norm].steps})
    shown = []
    for place, (norm, of_norm) in enumerate(measured.items()):
        reached = {fold: value for fold, value in of_norm.items() if 0 < value < math.inf}
        shown.append(_fold_points(plot, norm, place, reached, lanes))
        missed = [fold for fold in lanes if of_norm.get(fold) == math.inf]
        if unit == "steps" and missed:
            hollow = plot.scatter(
                x=[times[norm].bounds[fold] for fold in missed],
                y=[lanes[fold] - place for fold in missed],
                marker="triangle",
                angle=-math.pi / 2,
                size=8,
                line_color=style_of(norm).color,
                fill_color=None,
            )
            marks.tag(hollow, norm)
        row = verdict.row(norm)
        median = row.steps_to_target if unit == "steps" else row.seconds_to_target
        if median is not None:
            marks.summary(plot, norm, place, median, median, median)
    marks.hover(plot, shown, [("", "@norm, fold @fold"), (unit, "@x{0.[00]}")])
    return plot


def pairwise_accuracy(verdict: Verdict) -> figure:
    """Draw paired differences with their intervals, shaded what can go unseen."""
    tests = _shown(verdict.differences, verdict.best)
    plot = _forest(
        tests,
        x_label="Difference in validation accuracy (points)",
        between="−",
        scale=100.0,
        nothing=0.0,
        value="@middle{+0.0} points (@low{+0.0} to @high{+0.0})",
    )
    if verdict.detectable_after:
        limit = 100 * verdict.detectable_after
        plot.add_layout(
            BoxAnnotation(
                left=-limit, right=limit, fill_color=marks.NEUTRAL, fill_alpha=0.1, line_alpha=0.0
            )
        )
    return plot


def pairwise_speed(verdict: Verdict) -> figure:
    """Draw ratios of the steps to the target with their intervals."""
    soonest = verdict.speed_order[0] if verdict.speed_order else None
    return _forest(
        _shown(verdict.speed_differences, soonest),
        x_label="Ratio of the steps to the target (log)",
        between=":",
        scale=1.0,
        nothing=1.0,
        value="@middle{0.00} × the steps (@low{0.00} to @high{0.00})",
    )


def _curves_of(quantity: str, sources: Mapping[str, ColumnDataSource]) -> figure:
    label, is_loss = CURVES[quantity], quantity.endswith("loss")
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
    form, unit = ("{0.0000}", "") if is_loss else ("{0.0}", "%")
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


def _curve_source(of_norm: Trials) -> ColumnDataSource:
    epochs = of_norm.curves("train_accuracy").shape[1]
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
            curves = 100 * curves
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


def _fold_points(
    plot: figure,
    norm: str,
    place: int,
    values: Mapping[Fold, float],
    lanes: Mapping[Fold, float],
) -> GlyphRenderer[Any]:
    folds = [fold for fold in lanes if fold in values]
    source = marks.source(
        {
            "x": [values[fold] for fold in folds],
            "y": [lanes[fold] - place for fold in folds],
            "fold": [fold[1] for fold in folds],
            "norm": [display_name(norm)] * len(folds),
        }
    )
    return marks.points(plot, source, norm)


def _shown(tests: Sequence[PairedTest], leader: str | None) -> list[PairedTest]:
    """Choose the pairs that a figure has room for: all, or those with the leader."""
    if len(tests) <= MOST_PAIRS:
        return list(tests)
    return [test for test in tests if leader is not None and test.involves(leader)]


def _forest(
    tests: Sequence[PairedTest],
    *,
    x_label: str,
    between: str,
    scale: float,
    nothing: float,
    value: str,
) -> figure:
    """Draw one interval per pair: filled if the two are told apart, hollow if not."""
    labels = [
        f"{display_name(test.first)} {between}\n{display_name(test.second)}" for test in tests
    ]
    ends = [end for test in tests for end in (test.estimate.mean, test.estimate.low)]
    plot = marks.rows(
        labels, x_label=x_label, height=44, log_values=[1.0, *ends] if nothing > 0 else None
    )
    plot.add_layout(
        Span(location=nothing, dimension="height", line_color=marks.NEUTRAL, line_dash="dashed")
    )
    shown = []
    for place, test in enumerate(tests):
        judged = test.adjusted_p is not None
        middle = scale * test.estimate.mean
        # The interval of two or three folds would dwarf all others.
        low = scale * test.estimate.low if judged else math.nan
        high = scale * test.estimate.high if judged else math.nan
        color = style_of(test.first).color
        source = marks.source(
            {
                "low": [low],
                "middle": [middle],
                "high": [high],
                "y": [-place],
                "pair": [f"{display_name(test.first)} {between} {display_name(test.second)}"],
                "p": [f"{test.adjusted_p:.3g}" if judged else "not judged"],
                "folds": [test.pairs],
            }
        )
        line = plot.segment(
            x0="low", x1="high", y0="y", y1="y", source=source, line_color=color, line_width=2
        )
        marks.tag(line, test.first, test.second)
        dot = plot.scatter(
            x="middle",
            y="y",
            source=source,
            size=10,
            line_color=color,
            line_width=2,
            fill_color=color if test.told_apart else None,
        )
        shown.append(marks.tag(dot, test.first, test.second))
    marks.hover(
        plot,
        shown,
        [("", "@pair"), ("95%", value), ("p (Holm)", "@p"), ("folds", "@folds")],
    )
    return plot
