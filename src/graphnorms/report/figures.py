"""The figures of trials and pairs: Bokeh models of aggregated records, without own scripts.

Names, colours and order come from `style`, the parts from `marks`. Scores that are fractions are
shown in percent, others in the target's unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bokeh.models.annotations import BoxAnnotation, Span
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

from graphnorms.lab.design import Design, Pair
from graphnorms.lab.trials import NormTrials
from graphnorms.report import labels, marks
from graphnorms.report.layout import (
    chance_mark,
    foot_of,
    lanes_of,
    ratios_by_score,
    row_height,
    shown_ends,
    shown_pairs,
)
from graphnorms.report.series import differences_of, scores_of
from graphnorms.report.style import display_name, style_of

if TYPE_CHECKING:
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.speed import TimesToTarget
    from graphnorms.lab.verdict import Verdict


def score_by_pair(trials: Mapping[str, NormTrials], verdict: Verdict) -> figure:
    """Draw the score of every trial, each fold at its own height, and the trivial predictor's."""
    scale = verdict.scale
    scores = scores_of(trials, verdict)
    norms = list(scores)
    lanes = lanes_of({pair for of_norm in scores.values() for pair in of_norm})
    level = verdict.trivial
    plot = marks.rows(
        [labels.of_norm(norm, verdict) for norm in norms],
        x_label=labels.of_scores(verdict),
        height=row_height(len(lanes)),
        foot=labels.of_chance(verdict) if level is not None else "",
    )
    shown = [
        _pair_points(plot, norm, place, scores[norm], lanes, verdict)
        for place, norm in enumerate(norms)
    ]
    for place, norm in enumerate(norms):
        score = verdict.row(norm).score
        if score is not None:
            marks.summary(
                plot,
                norm,
                place,
                *(scale.factor * end for end in (score.low, score.mean, score.high)),
            )
    if level is not None:
        values = [value for of_norm in scores.values() for value in of_norm.values()]
        _chance(plot, scale.factor * level, values, foot_of(norms), scale.score(level))
    value = f"@x{labels.form(scale)}{labels.after(scale.score_unit)}"
    marks.hover(plot, shown, [("", "@norm, @pair"), (scale.metric.title, value)])
    return plot


def difference_by_pair(trials: Mapping[str, NormTrials], verdict: Verdict) -> figure:
    """Draw each trial's difference to the best norm on the same fold, as a stem from the line."""
    scale = verdict.scale
    scores = scores_of(trials, verdict)
    norms, differences = list(scores), differences_of(scores, verdict)
    lanes = lanes_of({pair for of_norm in scores.values() for pair in of_norm})
    plot = marks.rows(
        [labels.of_norm(norm, verdict) for norm in norms],
        x_label=labels.of_differences(verdict),
        height=row_height(len(lanes)),
        # As deep as the figure beside it, so that rows lie side by side.
        foot=" " if verdict.trivial is not None else "",
    )
    _nothing(plot, 0.0)
    shown = []
    for place, norm in enumerate(norms):
        of_norm = differences.get(norm, {})
        heights = [lanes[pair] - place for pair in lanes if pair in of_norm]
        stems = plot.segment(
            x0=0.0,
            x1=[of_norm[pair] for pair in lanes if pair in of_norm],
            y0=heights,
            y1=heights,
            line_color=style_of(norm).color,
            line_width=2,
            line_alpha=0.45,
        )
        marks.tag(stems, norm)
        shown.append(_pair_points(plot, norm, place, of_norm, lanes, verdict))
        test = verdict.row(norm).difference
        if norm == verdict.best:
            marks.summary(plot, norm, place, 0.0, 0.0, 0.0)
        elif test is not None:
            ends = shown_ends(test)
            marks.summary(plot, norm, place, *(scale.factor * end for end in ends))
    form, unit = labels.form(scale, signed=True), labels.after(scale.difference_unit)
    marks.hover(
        plot, shown, [("", "@norm, @pair"), (labels.of_differences(verdict), f"@x{form}{unit}")]
    )
    return plot


def time_to_target(times: Mapping[str, TimesToTarget], verdict: Verdict, unit: str) -> figure:
    """Draw when each trial reached the target, and the median below.

    Args:
        times: Times per norm.
        verdict: Gives the order of the norms and their medians.
        unit: `"steps"`, where misses stand hollow behind the end of the budget, or `"seconds"`.
    """
    norms = [row.norm for row in verdict.rows if row.norm in verdict.speed_order]
    label = "Optimizer steps" if unit == "steps" else "Seconds of training"
    measured = {n: times[n].steps if unit == "steps" else times[n].seconds for n in norms}
    lanes = lanes_of({pair for norm in norms for pair in times[norm].steps})
    ends = [value for of_norm in measured.values() for value in of_norm.values()]
    if unit == "steps" and math.inf in ends:
        ends += [bound for norm in norms for bound in times[norm].bounds.values()]
    plot = marks.rows(
        [labels.of_norm(norm, verdict) for norm in norms],
        x_label=f"{label} to the target (log)",
        height=row_height(len(lanes)),
        log_values=ends,
    )
    shown = []
    for place, (norm, of_norm) in enumerate(measured.items()):
        reached = {pair: value for pair, value in of_norm.items() if 0 < value < math.inf}
        shown.append(_pair_points(plot, norm, place, reached, lanes, verdict))
        missed = [pair for pair in lanes if of_norm.get(pair) == math.inf]
        if unit == "steps" and missed:
            hollow = plot.scatter(
                x=[times[norm].bounds[pair] for pair in missed],
                y=[lanes[pair] - place for pair in missed],
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
    marks.hover(plot, shown, [("", "@norm, @pair"), (unit, "@x{0.[00]}")])
    return plot


def pairwise_score(verdict: Verdict) -> figure:
    """Draw paired differences with their intervals; shaded what can go unseen, and the margin."""
    scale = verdict.scale
    tests = shown_pairs(verdict.differences, verdict.best)
    form = labels.form(scale, signed=True)
    plot = _forest(
        tests,
        x_label=labels.axis(f"Difference in {scale.metric.title}", scale.difference_unit, scale),
        between="−",
        scale=scale.factor,
        nothing=0.0,
        value=f"@middle{form}{labels.after(scale.difference_unit)} (@low{form} to @high{form})",
    )
    for limit, alpha in ((verdict.detectable_after, 0.1), (verdict.margin, 0.16)):
        if limit:
            end = scale.factor * limit
            band = BoxAnnotation(
                left=-end, right=end, fill_color=marks.NEUTRAL, fill_alpha=alpha, line_alpha=0.0
            )
            plot.add_layout(band)
    return plot


def pairwise_speed(verdict: Verdict) -> figure:
    """Draw ratios of the steps to the target with their intervals."""
    return _forest(
        shown_pairs(ratios_by_score(verdict), verdict.best),
        x_label="Ratio of the steps to the target (log)",
        between=":",
        scale=1.0,
        nothing=1.0,
        value="@middle{0.00} × the steps (@low{0.00} to @high{0.00})",
    )


def _pair_points(
    plot: figure,
    norm: str,
    place: int,
    values: Mapping[Pair, float],
    lanes: Mapping[Pair, float],
    verdict: Verdict,
) -> GlyphRenderer[Any]:
    pairs = [pair for pair in lanes if pair in values]
    source = marks.source(
        {
            "x": [values[pair] for pair in pairs],
            "y": [lanes[pair] - place for pair in pairs],
            "pair": [_named(pair, lanes, verdict.design) for pair in pairs],
            "norm": [display_name(norm)] * len(pairs),
        }
    )
    return marks.points(plot, source, norm)


def _named(pair: Pair, among: Iterable[Pair], design: Design) -> str:
    """Name a trial's place: `seed 4`, `fold 3`, `repeat 1, fold 3, run 2`."""
    if not design.by_fold:
        return f"seed {pair[2]}"
    seeds, _, runs = (sorted(set(values)) for values in zip(*among, strict=True))
    parts = [f"repeat {seeds.index(pair[0])}"] if len(seeds) > 1 else []
    parts.append(f"{design.count(1).split()[1]} {pair[1]}")
    return ", ".join(parts + [f"run {pair[2]}"] * (len(runs) > 1))


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
    names = [f"{display_name(test.first)} {between}\n{display_name(test.second)}" for test in tests]
    ends = [
        end
        for test in tests
        for end in (test.estimate.mean, test.estimate.low, test.estimate.high)
        if test.adjusted_p is not None or end == test.estimate.mean
    ]
    plot = marks.rows(
        names, x_label=x_label, height=44, log_values=[1.0, *ends] if nothing > 0 else None
    )
    _nothing(plot, nothing)
    shown = []
    for place, test in enumerate(tests):
        judged = test.adjusted_p is not None
        low, middle, high = (scale * end for end in shown_ends(test))
        color = style_of(test.first).color
        source = marks.source(
            {
                "low": [low],
                "middle": [middle],
                "high": [high],
                "y": [-place],
                "pair": [f"{display_name(test.first)} {between} {display_name(test.second)}"],
                "p": [f"{test.adjusted_p:.3g}" if judged else "not judged"],
                "pairs": [test.pairs],
                "odds": [_odds(test)],
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
        [
            ("", "@pair"),
            ("95%", value),
            ("p (adjusted)", "@p"),
            ("better, equal, worse", "@odds"),
            ("pairs", "@pairs"),
        ],
    )
    return plot


def _nothing(plot: figure, place: float) -> None:
    """Draw the line at which there is no difference."""
    line = Span(location=place, dimension="height", line_color=marks.NEUTRAL, line_dash="dashed")
    plot.add_layout(line)


def _chance(plot: figure, level: float, values: Sequence[float], height: float, text: str) -> None:
    """Draw where the trivial predictor scores, or say on which side it lies far off."""
    mark = chance_mark(level, values, text)
    marks.note(plot, mark.x, height, mark.text, leftwards=mark.leftwards)
    if not mark.inside:
        return
    plot.add_layout(
        Span(location=level, dimension="height", line_color=marks.NEUTRAL, line_dash="dotted",
             line_width=2)
    )  # fmt: skip
    tick = plot.scatter(
        x=[level], y=[height], marker="dash", angle=math.pi / 2, size=14, line_width=3,
        line_color=marks.NEUTRAL,
    )  # fmt: skip
    marks.tag(tick).tags = ["chance"]


def _odds(test: PairedTest) -> str:
    odds = test.probabilities
    if odds is None:
        return "–"
    return ", ".join(f"{value:.0%}" for value in (odds.first, odds.equal, odds.second))
