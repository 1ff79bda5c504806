"""Figures with a point per trial: scores, differences to the best norm, times to the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnorms.lab.design import Design, Pair
from graphnorms.lab.paired_tests import differences_to
from graphnorms.lab.statistics import Estimate
from graphnorms.report import labels, vega
from graphnorms.report.chart import Figure, Panel, Spec
from graphnorms.report.style import DASHES, display_name

if TYPE_CHECKING:
    from graphnorms.lab.speed import TimesToTarget
    from graphnorms.lab.trials import NormTrials
    from graphnorms.lab.verdict import Verdict

    Values = Mapping[str, Mapping[Pair, float]]


@dataclass(frozen=True)
class _Rows:
    """The rows of a panel, one per norm, with a lane for each trial.

    Args:
        names: What the norms are called, from the top.
        lanes: The height within a row of each fold and run, or seed.
        design: Says what a trial is called.
    """

    names: dict[str, str]
    lanes: dict[Pair, float]
    design: Design

    @classmethod
    def of(cls, values: Values, verdict: Verdict) -> _Rows:
        """Make room for some values per norm and trial."""
        pairs = {pair for of_norm in values.values() for pair in of_norm}
        return cls(labels.of_norms(verdict, values), vega.lanes_of(pairs), verdict.design)

    def trials(
        self, values: Values, *layers: Spec, x: Spec | None = None, factor: float = 1.0
    ) -> Spec:
        """Draw layers over the trials: their `x`, `lane` and the name `trial`.

        The data have one row per norm, with lists, so that a page of many trials stays small.
        """
        places = {pair: place for place, pair in enumerate(self.lanes)}
        rows = [
            {
                "norm": norm,
                "row": norm,
                "x": [vega.rounded(factor * value) for value in of_norm.values()],
                "place": [places[pair] for pair in of_norm],
            }
            for norm, of_norm in values.items()
        ]
        layer = vega.rows_of(rows, self.names, *layers, x=x)
        layer["transform"] = [
            {"flatten": ["x", "place"]},
            vega.looked_up([round(lane, 4) for lane in self.lanes.values()], "place", "lane"),
            vega.looked_up(_trial_names([*self.lanes], self.design), "place", "trial"),
            *layer["transform"],
        ]
        return layer

    def panel(self, name: str, words: str, layers: list[Spec]) -> Panel:
        """Return the panel."""
        return vega.row_panel(name, words, layers, len(self.names), len(self.lanes))


def score_by_pair(trials: Mapping[str, NormTrials], verdict: Verdict) -> Figure:
    """Draw the score of every trial and the means; beside it the differences to the best norm."""
    scores = {row.norm: of_norm for row in verdict.rows if (of_norm := trials[row.norm].scores())}
    rows = _Rows.of(scores, verdict)
    panels = [_scores(rows, scores, verdict)]
    if verdict.differences:
        panels.append(_differences(rows, scores, verdict))
    return Figure(name="score_by_pair", panels=tuple(panels))


def _scores(rows: _Rows, scores: Values, verdict: Verdict) -> Panel:
    scale, level, title = verdict.scale, verdict.trivial, labels.of_scores(verdict)
    found = {norm: verdict.row(norm).score for norm in scores}
    means = [vega.summary(norm, one, scale.factor) for norm, one in found.items() if one]
    layers = [
        rows.trials(
            scores,
            vega.points(rows.names, title, labels.form(scale)),
            factor=scale.factor,
            x=vega.quantity("x", title, zero=False),
        ),
        vega.rows_of(means, rows.names, *vega.MEANS),
    ]
    if level is not None:
        values = [scale.factor * value for of_norm in scores.values() for value in of_norm.values()]
        layers += vega.chance(scale.factor * level, values, f"chance {scale.score(level)}")
    at = "" if level is None else f"; chance is {scale.score(level)}"
    words = f"{title} of every trial and mean, {_row_each(verdict)}{at}"
    return rows.panel("score_by_pair", words, layers)


def _differences(rows: _Rows, scores: Values, verdict: Verdict) -> Panel:
    """Draw each trial's difference to the best norm on the same fold, as a stem from the line."""
    scale, label, best = verdict.scale, labels.of_differences(verdict), verdict.best or ""
    means = [vega.summary(best, Estimate(0.0, math.nan, math.nan))]
    for norm in scores:
        test = verdict.row(norm).difference
        if test is not None:
            means.append(vega.summary(norm, labels.shown_interval(test), scale.factor))
    stems = {
        "mark": {"type": "rule", "opacity": 0.45, "strokeWidth": 2},
        "encoding": {"x2": {"datum": 0}},
    }
    layers = [
        vega.vertical(0, DASHES["dashed"]),
        rows.trials(
            differences_to(best, scores, verdict.contenders),
            stems,
            vega.points(rows.names, label, labels.form(scale, signed=True)),
            factor=scale.factor,
            x=vega.quantity("x", label),
        ),
        vega.rows_of(means, rows.names, *vega.MEANS),
    ]
    if verdict.trivial is not None:  # as high as the panel beside it, so that rows are level
        layers.append(vega.note(" ", {"datum": 0}, "center"))
    words = f"Difference of every trial to that of {display_name(best)}, {_row_each(verdict)}"
    return rows.panel("difference_by_pair", words, layers)


def time_to_target(times: Mapping[str, TimesToTarget], verdict: Verdict) -> Figure:
    """Draw when each trial reached the target, in steps and in seconds, with the medians.

    Args:
        times: Times per norm.
        verdict: Gives the order of the norms and their medians.
    """
    timed = {row.norm: times[row.norm] for row in verdict.rows if row.norm in verdict.speed_order}
    rows = _Rows.of({norm: of_norm.steps for norm, of_norm in timed.items()}, verdict)
    return Figure(
        name="time_to_target",
        panels=tuple(_times(rows, timed, verdict, unit) for unit in ("steps", "seconds")),
    )


def _times(rows: _Rows, times: Mapping[str, TimesToTarget], verdict: Verdict, unit: str) -> Panel:
    """Draw one unit; trials that missed stand hollow behind the end of the budget, in steps."""
    in_steps = unit == "steps"
    measured = {
        norm: of_norm.steps if in_steps else of_norm.seconds for norm, of_norm in times.items()
    }
    reached = {
        norm: {pair: time for pair, time in of_norm.items() if 0 < time < math.inf}
        for norm, of_norm in measured.items()
    }
    missed = {
        norm: {pair: times[norm].bounds[pair] for pair, time in of_norm.items() if time == math.inf}
        for norm, of_norm in measured.items()
    }
    medians = []
    for norm in times:
        row = verdict.row(norm)
        median = row.steps_to_target if in_steps else row.seconds_to_target
        if median is not None:
            medians.append(vega.summary(norm, Estimate(median, math.nan, math.nan)))
    what = "Optimizer steps" if in_steps else "Seconds of training"
    x = vega.quantity("x", f"{what} to the target (log)", **vega.LOG)
    tooltip = [vega.told("label", "norm"), vega.told("trial", "missed in trial")]
    hollow = {
        "mark": {"type": "point", "shape": "triangle-right", "fill": "transparent", "size": 70},
        "encoding": {"tooltip": tooltip},
    }
    layers = [
        rows.trials(reached, vega.points(rows.names, unit, "~r"), x=x),
        rows.trials(missed if in_steps else {}, hollow),
        vega.rows_of(medians, rows.names, *vega.MEANS),
    ]
    words = f"{what} to the target, a point per trial, {_row_each(verdict)}"
    return rows.panel(f"{unit}_to_target", words, layers)


def _trial_names(pairs: list[Pair], design: Design) -> list[str]:
    """Name the places of trials: `seed 4`, `fold 3`, `repeat 1, fold 3, run 2`."""
    if not design.by_fold:
        return [f"seed {run}" for _, _, run in pairs]
    seeds, _, runs = (sorted(set(values)) for values in zip(*pairs, strict=True))
    kind = design.count(1).split()[1]
    return [
        f"repeat {seeds.index(seed)}, " * (len(seeds) > 1)
        + f"{kind} {fold}"
        + f", run {run}" * (len(runs) > 1)
        for seed, fold, run in pairs
    ]


def _row_each(verdict: Verdict) -> str:
    return f"one row for each of {labels.listed(verdict)}, the best first"
