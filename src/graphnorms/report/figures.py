"""The figures of a comparison, each defined once for page, files and notebooks.

They show what the verdict and its trials hold. Names, colours and order come from `style` and
the verdict, what a figure is from `chart`. Scores that are fractions are shown in percent, others
in the target's unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from graphnorms.lab import speed
from graphnorms.lab.design import Design, Pair
from graphnorms.lab.phrases import listing
from graphnorms.lab.statistics import Estimate
from graphnorms.lab.trials import NormTrials, group_trials
from graphnorms.report import labels, vega
from graphnorms.report.chart import Figure, Panel, Spec
from graphnorms.report.series import CURVES, curve_columns, differences_of, scores_of
from graphnorms.report.style import DASHES, NEUTRAL, display_name

if TYPE_CHECKING:
    from graphnorms.lab.across_datasets import AcrossDatasets
    from graphnorms.lab.number_format import Scale
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.speed import TimesToTarget
    from graphnorms.lab.verdict import Verdict
    from graphnorms.training.record import Record

    Trialled = Mapping[str, NormTrials]

FIGURES: Final = (
    "learning_curves",
    "learning_curves_by_second",
    "score_by_pair",
    "rate_sensitivity",
    "time_to_target",
    "pairwise",
)
"""What can be drawn; not every comparison has all."""

MOST_PAIRS: Final = 15
"""Pairs of norms that a figure has room for."""

_COLUMNS: Final = ("epoch", "step", "seconds", "mean", "low", "high", "marked")
_UNITS: Final = {"epoch": "Epoch", "seconds": "Seconds of training"}


def figures_of(records: Sequence[Record], verdict: Verdict) -> dict[str, Figure]:
    """Return every figure that a comparison has, by name.

    Args:
        records: Outcomes of the comparison, in any order.
        verdict: What `graphnorms.lab.judge.judge` says of them.
    """
    if verdict.best is None:
        return {}
    trials = group_trials(records, [row.norm for row in verdict.rows], protocol=verdict.protocol)
    found = [learning_curves(trials, verdict)]
    if any(of_norm.seconds().size for of_norm in trials.values()):
        found.append(learning_curves(trials, verdict, "seconds"))
    found.append(score_by_pair(trials, verdict))
    if any(row.sensitivity is not None and row.sensitivity.judged for row in verdict.rows):
        found.append(rate_sensitivity(verdict))
    if verdict.target is not None:
        found.append(time_to_target(speed.times_to_target(trials, verdict.target), verdict))
    if verdict.differences:
        found.append(pairwise(verdict))
    return {figure.name: figure for figure in found}


def learning_curves(trials: Trialled, verdict: Verdict, unit: str = "epoch") -> Figure:
    """Draw four panels: a line for the mean over trials, a band for one deviation to each side.

    Args:
        trials: NormTrials per norm; those without a done trial have no curve.
        verdict: Gives the order of the norms, and the one whose line is thicker: the recommended.
        unit: Column of the horizontal axis: `"epoch"` or `"seconds"`.
    """
    done = [row.norm for row in verdict.rows if trials[row.norm].done]
    columns = {
        norm: curve_columns(trials[norm], verdict.scale, norms=len(verdict.rows)) for norm in done
    }
    return Figure(
        name="learning_curves" if unit == "epoch" else "learning_curves_by_second",
        panels=tuple(_curves(quantity, columns, verdict, unit) for quantity in CURVES),
        legend=vega.legend(_names(verdict, done)),
    )


def _curves(
    quantity: str, columns: Mapping[str, Mapping[str, Any]], verdict: Verdict, unit: str
) -> Panel:
    names, label = _names(verdict), labels.of_curve(quantity, verdict.scale)
    is_loss = quantity.endswith("loss")
    number = ".4f" if is_loss else labels.form(verdict.scale)
    ends = (f"format(datum.{end}, '{number}')" for end in ("low", "high"))
    band = {"calculate": " + ' to ' + ".join(ends), "as": "band"}
    scale = vega.LOG | {"padding": 0} if is_loss else {"zero": False}
    spec = {
        "height": 240,
        "data": {"values": _compact(quantity, columns)},
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
        words=f"{part} {what} by epoch, one line for each of {_listed(verdict)}",
        spec=spec,
        controls=(vega.under_pointer(names, tooltip),),
    )


def _compact(quantity: str, columns: Mapping[str, Mapping[str, Any]]) -> list[Spec]:
    """Return the curves of a quantity, a row per norm that holds one list per column."""
    sources = ("epoch", "step", "seconds", quantity, f"{quantity}_low", f"{quantity}_high")
    rows: list[Spec] = []
    for norm, of_norm in columns.items():
        lists = (list(map(_rounded, of_norm[source])) for source in sources)
        points = len(of_norm["epoch"])
        marked = [int(place % max(1, points // 8) == 0) for place in range(points)]
        rows.append({"norm": norm, **dict(zip(_COLUMNS, (*lists, marked), strict=True))})
    return rows


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.6g}")


def score_by_pair(trials: Trialled, verdict: Verdict) -> Figure:
    """Draw the score of every trial and the means; beside it the differences to the best norm."""
    scores = scores_of(trials, verdict)
    lanes = vega.lanes_of({pair for of_norm in scores.values() for pair in of_norm})
    panels = [_scores(scores, lanes, verdict)]
    if verdict.differences:
        panels.append(_differences(scores, lanes, verdict))
    return Figure(name="score_by_pair", panels=tuple(panels))


def _scores(
    scores: Mapping[str, Mapping[Pair, float]], lanes: Mapping[Pair, float], verdict: Verdict
) -> Panel:
    scale, level = verdict.scale, verdict.trivial
    names = _names(verdict, scores)
    summaries = []
    for norm in scores:
        score = verdict.row(norm).score
        if score is not None:
            low, high = (_bounded(end, scale) for end in (score.low, score.high))
            summaries.append(vega.summary(norm, low, scale.factor * score.mean, high))
    layers = [
        vega.rows_of(
            _trials(scores, lanes, verdict),
            names,
            vega.points(names, labels.of_scores(verdict), labels.form(scale)),
            x=vega.quantity("x", labels.of_scores(verdict), zero=False),
        ),
        vega.rows_of(summaries, names, *vega.MEANS),
    ]
    if level is not None:
        values = [value for of_norm in scores.values() for value in of_norm.values()]
        layers += vega.chance(scale.factor * level, values, f"chance {scale.score(level)}")
    at = "" if level is None else f"; chance is {scale.score(level)}"
    words = f"{labels.of_scores(verdict)} of every trial and mean, {_row_each(verdict)}{at}"
    return vega.row_panel("score_by_pair", words, layers, len(names), len(lanes))


def _differences(
    scores: Mapping[str, Mapping[Pair, float]], lanes: Mapping[Pair, float], verdict: Verdict
) -> Panel:
    """Draw each trial's difference to the best norm on the same fold, as a stem from the line."""
    scale = verdict.scale
    names, label = _names(verdict, scores), labels.of_differences(verdict)
    summaries = [vega.summary(verdict.best or "", None, 0.0, None)]
    for norm in scores:
        test = verdict.row(norm).difference
        if test is not None:
            low, high = _ends(test, scale.factor)
            summaries.append(vega.summary(norm, low, scale.factor * test.estimate.mean, high))
    stems = {
        "mark": {"type": "rule", "opacity": 0.45, "strokeWidth": 2},
        "encoding": {"x2": {"datum": 0}},
    }
    layers = [
        vega.vertical(0, DASHES["dashed"]),
        vega.rows_of(
            _trials(differences_of(scores, verdict), lanes, verdict),
            names,
            stems,
            vega.points(names, label, labels.form(scale, signed=True)),
            x=vega.quantity("x", label),
        ),
        vega.rows_of(summaries, names, *vega.MEANS),
    ]
    if verdict.trivial is not None:  # as high as the panel beside it, so that rows are level
        layers.append(vega.note(" ", {"datum": 0}, "center"))
    best = display_name(verdict.best or "")
    words = f"Difference of every trial to that of {best}, {_row_each(verdict)}"
    return vega.row_panel("difference_by_pair", words, layers, len(names), len(lanes))


def time_to_target(times: Mapping[str, TimesToTarget], verdict: Verdict) -> Figure:
    """Draw when each trial reached the target, in steps and in seconds, with the medians.

    Args:
        times: Times per norm.
        verdict: Gives the order of the norms and their medians.
    """
    return Figure(
        name="time_to_target",
        panels=tuple(_times(times, verdict, unit) for unit in ("steps", "seconds")),
    )


def _times(times: Mapping[str, TimesToTarget], verdict: Verdict, unit: str) -> Panel:
    """Draw one unit; trials that missed stand hollow behind the end of the budget, in steps."""
    norms = [row.norm for row in verdict.rows if row.norm in verdict.speed_order]
    names = _names(verdict, norms)
    lanes = vega.lanes_of({pair for norm in norms for pair in times[norm].steps})
    reached: dict[str, dict[Pair, float]] = {}
    missed: dict[str, dict[Pair, float]] = {}
    medians = []
    for norm in norms:
        measured = times[norm].steps if unit == "steps" else times[norm].seconds
        reached[norm] = {pair: time for pair, time in measured.items() if 0 < time < math.inf}
        late = [pair for pair, time in measured.items() if time == math.inf and unit == "steps"]
        missed[norm] = {pair: times[norm].bounds[pair] for pair in late}
        row = verdict.row(norm)
        median = row.steps_to_target if unit == "steps" else row.seconds_to_target
        if median is not None:
            medians.append(vega.summary(norm, None, median, None))
    what = "Optimizer steps" if unit == "steps" else "Seconds of training"
    x = vega.quantity("x", f"{what} to the target (log)", **vega.LOG)
    tooltip = [vega.told("label", "norm"), vega.told("trial", "missed in trial")]
    hollow = {
        "mark": {"type": "point", "shape": "triangle-right", "fill": "transparent", "size": 70},
        "encoding": {"tooltip": tooltip},
    }
    layers = [
        vega.rows_of(_trials(reached, lanes, verdict), names, vega.points(names, unit, "~r"), x=x),
        vega.rows_of(_trials(missed, lanes, verdict), names, hollow),
        vega.rows_of(medians, names, *vega.MEANS),
    ]
    words = f"{what} to the target, a point per trial, {_row_each(verdict)}"
    return vega.row_panel(f"{unit}_to_target", words, layers, len(names), len(lanes))


def pairwise(verdict: Verdict) -> Figure:
    """Draw paired differences in score, and ratios of the steps to the target, with intervals."""
    scale = verdict.scale
    title = scale.metric.title
    limits = ((verdict.detectable_after, 0.1), (verdict.margin, 0.16))
    bands = [vega.band(scale.factor * limit, opacity) for limit, opacity in limits if limit]
    label = labels.axis(f"Difference in {title}", scale.difference_unit, scale)
    tests = shown_pairs(verdict.differences, verdict.best)
    form = labels.form(scale, signed=True)
    layers = [
        *bands,
        vega.vertical(0, DASHES["dashed"]),
        _forest(tests, "−", scale.factor, x=vega.quantity("x", label), form=form),
    ]
    words = f"Differences in {title} of all pairs, with 95% intervals"
    panels = [vega.row_panel("pairwise_score", words, layers, len(tests))]
    if verdict.speed_differences:
        tests = shown_pairs(ratios_by_score(verdict), verdict.best)
        x = vega.quantity("x", "Ratio of the steps to the target (log)", **vega.LOG)
        layers = [vega.vertical(1, DASHES["dashed"]), _forest(tests, ":", 1.0, x=x, form=".2f")]
        words = "Ratios of the steps to the target of all pairs, with 95% intervals"
        panels.append(vega.row_panel("pairwise_speed", words, layers, len(tests)))
    return Figure(name="pairwise", panels=tuple(panels))


def _forest(
    tests: Sequence[PairedTest], between: str, factor: float, *, x: Spec, form: str
) -> Spec:
    """Draw one interval per pair, filled if the two are told apart."""
    names, rows = {}, []
    for place, test in enumerate(tests):
        first, second = display_name(test.first), display_name(test.second)
        names[str(place)] = f"{first} {between}\n{second}"
        low, high = _ends(test, factor)
        ends = "" if low is None else f"{low:{form}} to {high:{form}}".replace("-", "−")
        rows.append(
            {
                "row": str(place),
                "norm": test.first,
                "other": test.second,
                "x": factor * test.estimate.mean,
                "low": low,
                "high": high,
                "interval": ends,
                "apart": test.told_apart,
                "p": "not judged" if test.adjusted_p is None else f"{test.adjusted_p:.3g}",
                "odds": _odds(test),
                "pairs": test.pairs,
            }
        )
    norms = dict.fromkeys(norm for test in tests for norm in (test.first, test.second))
    tooltip = [
        vega.told("pair", "pair"),
        vega.told("x", "mean", form),
        vega.told("interval", "95%"),
        vega.told("p", "p (adjusted)"),
        vega.told("odds", "better, equal, worse"),
        vega.told("pairs", "pairs"),
    ]
    mark: Spec = {"type": "point", "size": 90, "strokeWidth": 2, "opacity": 1}
    filled, hollow = (
        {"transform": [{"filter": test}], "mark": mark | fill, "encoding": {"tooltip": tooltip}}
        for test, fill in (
            ("datum.apart", {"filled": True}),
            ("!datum.apart", {"filled": False, "fill": "transparent"}),
        )
    )
    layer = vega.rows_of(rows, names, vega.MEANS[0], filled, hollow, x=x, norms=list(norms))
    layer["transform"].append(
        {"calculate": f"replace({vega.named(names, 'datum.row')}, '\\n', ' ')", "as": "pair"}
    )
    return layer


def rate_sensitivity(verdict: Verdict) -> Figure:
    """Draw the mean validation score of every learning rate; large marks are the norms' best.

    A hollow mark has trials that failed, which are left out of the mean.
    """
    scale, names = verdict.scale, _names(verdict)
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
    words = f"{label} by learning rate, one line for each of {_listed(verdict)}"
    panel = Panel(name="rate_sensitivity", words=words, spec=spec)
    return Figure(name="rate_sensitivity", panels=(panel,), legend=vega.legend(names))


def critical_difference(across: AcrossDatasets) -> Figure:
    """Draw average ranks, best first, and below bars that join the norms that are tied.

    A bar joins norms whose average ranks differ by less than Nemenyi's critical difference, whose
    length stands at the top.

    Source: Demšar, Journal of Machine Learning Research 7, 2006, figure 1, here with one row per
    norm.
    """
    ranks = across.ranks
    length = f"critical difference {across.critical_difference:.2f}"
    names = {"": length}
    names |= {norm: f"{display_name(norm)}  {rank:.2f}" for norm, rank in ranks.items()}
    bars: list[Spec] = [
        {"row": "", "low": 1, "high": 1 + min(across.critical_difference, len(ranks) - 1)}
    ]
    for place, group in enumerate(across.groups):
        names[f"tied {place}"] = "not told apart"
        bars.append({"row": f"tied {place}", "low": ranks[group[0]], "high": ranks[group[-1]]})
    points = [{"row": norm, "norm": norm, "rank": rank} for norm, rank in ranks.items()]
    y = vega.row_axis(names)
    x = vega.quantity("rank", "Average rank")
    x["axis"] = {"values": list(range(1, len(ranks) + 1)), "format": "d", "orient": "top"}
    x["scale"] |= {"domain": [1, len(ranks)], "padding": 12, "nice": False}
    spec = {
        "height": 30 * len(names),
        "layer": [
            {
                "data": {"values": bars},
                "mark": {"type": "bar", "height": 5, "color": NEUTRAL},
                "encoding": {"y": y, "x": x | {"field": "low"}, "x2": {"field": "high"}},
            },
            {
                "data": {"values": points},
                "transform": [vega.SHOWN],
                "mark": {"type": "point", "filled": True, "opacity": 1, "size": 110},
                "encoding": {
                    "y": y,
                    "x": x,
                    "color": vega.color(ranks),
                    "shape": vega.shape(ranks),
                    "tooltip": [vega.told("row", "norm"), vega.told("rank", "average rank", ".2f")],
                },
            },
        ],
    }
    listed = ", ".join(f"{display_name(norm)} {rank:.2f}" for norm, rank in ranks.items())
    words = f"Average ranks: {listed}; {length}"
    return Figure(
        name="critical_difference",
        panels=(Panel(name="critical_difference", words=words, spec=spec),),
    )


def shown_pairs(tests: Sequence[PairedTest], leader: str | None) -> list[PairedTest]:
    """Choose the pairs that a figure has room for: all, or those with the leader."""
    if len(tests) <= MOST_PAIRS:
        return list(tests)
    return [test for test in tests if leader is not None and test.involves(leader)]


def ratios_by_score(verdict: Verdict) -> list[PairedTest]:
    """Return the tests of speed in the order of those of scores: the better in score first.

    A ratio above 1 then says that the norm with the better score is the slower one.
    """
    places = {row.norm: place for place, row in enumerate(verdict.rows)}

    def turned(test: PairedTest) -> PairedTest:
        if places[test.first] < places[test.second]:
            return test
        one = test.estimate
        ratio = Estimate(1 / one.mean, 1 / one.high, 1 / one.low)
        return replace(test, first=test.second, second=test.first, estimate=ratio)

    tests = map(turned, verdict.speed_differences)
    return sorted(tests, key=lambda test: (places[test.first], places[test.second]))


def _names(verdict: Verdict, norms: Iterable[str] | None = None) -> dict[str, str]:
    """Return what norms are called, in the order of the verdict."""
    chosen = [row.norm for row in verdict.rows] if norms is None else norms
    return {norm: labels.of_norm(norm, verdict) for norm in chosen}


def _trials(
    values: Mapping[str, Mapping[Pair, float]], lanes: Mapping[Pair, float], verdict: Verdict
) -> list[Spec]:
    """Return a row of data per trial."""
    return [
        {
            "row": norm,
            "norm": norm,
            "x": of_norm[pair],
            "lane": lane,
            "trial": _trial_name(pair, lanes, verdict.design),
        }
        for norm, of_norm in values.items()
        for pair, lane in lanes.items()
        if pair in of_norm
    ]


def _bounded(score: float, scale: Scale) -> float | None:
    """Return the end of an interval as it is shown, within what the metric can be."""
    least, most = scale.metric.least, scale.metric.most
    return None if math.isnan(score) else scale.factor * min(max(score, least), most)


def _ends(test: PairedTest, factor: float) -> tuple[float | None, float | None]:
    """Return the interval; None where two or three folds would dwarf all others."""
    low, high = test.estimate.low, test.estimate.high
    if test.adjusted_p is None or math.isnan(low):
        return None, None
    most = 1.0 if factor != 1 else math.inf  # of fractions
    return factor * max(low, -most), factor * min(high, most)


def _trial_name(pair: Pair, among: Iterable[Pair], design: Design) -> str:
    """Name a trial's place: `seed 4`, `fold 3`, `repeat 1, fold 3, run 2`."""
    if not design.by_fold:
        return f"seed {pair[2]}"
    seeds, _, runs = (sorted(set(values)) for values in zip(*among, strict=True))
    parts = [f"repeat {seeds.index(pair[0])}"] if len(seeds) > 1 else []
    parts.append(f"{design.count(1).split()[1]} {pair[1]}")
    return ", ".join(parts + [f"run {pair[2]}"] * (len(runs) > 1))


def _odds(test: PairedTest) -> str:
    odds = test.probabilities
    if odds is None:
        return "–"
    return ", ".join(f"{value:.0%}" for value in (odds.first, odds.equal, odds.second))


def _listed(verdict: Verdict) -> str:
    return listing(display_name(row.norm) for row in verdict.rows)


def _row_each(verdict: Verdict) -> str:
    return f"one row for each of {_listed(verdict)}, the best first"
