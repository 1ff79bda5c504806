"""The figures of the page as pictures: for papers, slides and notebooks.

Drawn with matplotlib from the same numbers as those of the page, in the same order, with the same
names, colours and markers. Nothing but the figure is returned, no window is opened and no global
state is changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import unknown_name
from graphnorms.lab import speed
from graphnorms.lab.trials import NormTrials, group_trials
from graphnorms.report import drawing, labels
from graphnorms.report.drawing import literal, look_of, styled
from graphnorms.report.layout import (
    FOOT,
    SUMMARY_OFFSET,
    chance_mark,
    foot_of,
    lanes_of,
    log_ticks,
    ratios_by_score,
    row_height,
    shown_ends,
    shown_pairs,
    wrapped,
)
from graphnorms.report.series import CURVES, curve_columns, differences_of, scores_of
from graphnorms.report.style import display_name, style_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from graphnorms.lab.design import Pair
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.verdict import Verdict
    from graphnorms.training.record import Record

PICTURES: Final = (
    "learning_curves",
    "learning_curves_by_second",
    "score_by_pair",
    "rate_sensitivity",
    "time_to_target",
    "pairwise",
)
"""What can be drawn; not every comparison has all."""

WIDTH: Final = 7.2  # inches: a page of text
_NEUTRAL: Final = "#8A8A8A"
_ROW: Final = 0.42  # inches of a norm
_MARGIN: Final = 0.65  # inches of an axis and its name


def draw(name: str, records: Sequence[Record], verdict: Verdict) -> Figure:
    """Draw one of `PICTURES`.

    Args:
        name: Which.
        records: Outcomes of the comparison, in any order.
        verdict: What `graphnorms.lab.judge.judge` says of them.

    Raises:
        ValueError: There is no such picture, or not of this comparison.
        ImportError: matplotlib is not installed.
    """
    if name not in PICTURES:
        raise unknown_name("picture", name, PICTURES)
    drawers = _drawers(records, verdict)
    if name not in drawers:
        raise ValueError(
            f"this comparison has no picture {name!r}; it has {', '.join(drawers) or 'none'}"
        )
    with styled():
        return drawers[name]()


def write_pictures(folder: Path, records: Sequence[Record], verdict: Verdict) -> list[Path]:
    """Write every picture of a comparison as SVG and PNG, and return the files.

    Equal arguments give equal bytes.

    Args:
        folder: Where they go; made when it does not exist, its older pictures are replaced.
        records, verdict: As for `draw`.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: A file cannot be written.
    """
    files: list[Path] = []
    for name, drawer in _drawers(records, verdict).items():
        folder.mkdir(parents=True, exist_ok=True)
        with styled():
            figure = drawer()
        files += drawing.write(figure, folder / name)
    return files


def folder_beside(page: Path) -> Path:
    """Return where the pictures of a page go: `report-figures` beside `report.html`."""
    return page.with_name(f"{page.stem}-figures")


def _drawers(records: Sequence[Record], verdict: Verdict) -> dict[str, Callable[[], Figure]]:
    """Return what draws each picture that this comparison has."""
    if verdict.best is None:
        return {}
    trials = group_trials(records, [row.norm for row in verdict.rows], protocol=verdict.protocol)
    found: dict[str, Callable[[], Figure]] = {
        "learning_curves": lambda: _learning_curves(trials, verdict, "epoch"),
    }
    if any(of_norm.seconds().size for of_norm in trials.values()):
        found["learning_curves_by_second"] = lambda: _learning_curves(trials, verdict, "seconds")
    found["score_by_pair"] = lambda: _score_by_pair(trials, verdict)
    if any(row.sensitivity is not None and row.sensitivity.judged for row in verdict.rows):
        found["rate_sensitivity"] = lambda: _rate_sensitivity(verdict)
    if verdict.target is not None:
        found["time_to_target"] = lambda: _time_to_target(trials, verdict)
    if verdict.differences:
        found["pairwise"] = lambda: _pairwise(verdict)
    return found


def _learning_curves(trials: Mapping[str, NormTrials], verdict: Verdict, unit: str) -> Figure:
    """Four panels: a line for the mean over trials, a band for one deviation to either side."""
    names = {"epoch": "Epoch", "seconds": "Seconds of training"}
    figure = _new(5.4)
    panels = figure.subplots(2, 2, sharex=True).ravel()
    columns = {row.norm: curve_columns(of_norm, verdict.scale) for row in verdict.rows
               if (of_norm := trials[row.norm]).done}  # fmt: skip
    for axis, quantity in zip(panels, CURVES, strict=True):
        for norm, values in columns.items():
            x, look = values[unit], _look(norm, verdict)
            axis.plot(x, values[quantity], markevery=max(1, len(x) // 8), **look)
            axis.fill_between(
                x, values[f"{quantity}_low"], values[f"{quantity}_high"],
                color=look["color"], alpha=0.13, linewidth=0,
            )  # fmt: skip
        axis.set_ylabel(labels.of_curve(quantity, verdict.scale))
        if quantity.endswith("loss"):
            if any(max(values[quantity], default=0) > 0 for values in columns.values()):
                axis.set_yscale("log")
                _plain_logs(axis.yaxis)
            axis.set_xlabel(names[unit])
    _legend(figure, panels[0])
    return figure


def _score_by_pair(trials: Mapping[str, NormTrials], verdict: Verdict) -> Figure:
    """The score of every trial and the means; beside it the differences to the best norm."""
    scale, level = verdict.scale, verdict.trivial
    scores = scores_of(trials, verdict)
    norms, differences = list(scores), differences_of(scores, verdict)
    lanes = lanes_of({pair for of_norm in scores.values() for pair in of_norm})
    names = [labels.of_norm(norm, verdict) for norm in norms]
    foot = labels.of_chance(verdict) if level is not None else ""
    height = row_height(len(lanes)) / 100 * (len(norms) + (FOOT if foot else 0.0))
    figure = _new(_MARGIN + height)
    panels = figure.subplots(1, 2 if verdict.differences else 1, sharey=True, squeeze=False).ravel()
    axis = _rows(panels[0], names, foot)
    for place, norm in enumerate(norms):
        _points(axis, norm, place, scores[norm], lanes)
        score = verdict.row(norm).score
        if score is not None:
            _summary(
                axis, norm, place, *(scale.factor * x for x in (score.low, score.mean, score.high))
            )
    if level is not None:
        values = [value for of_norm in scores.values() for value in of_norm.values()]
        _chance(axis, scale.factor * level, values, foot_of(norms), scale.score(level))
    axis.set_xlabel(labels.of_scores(verdict))
    if verdict.differences:
        _rows(panels[1], names, foot)
        _differences(panels[1], norms, differences, lanes, verdict)
    return figure


def _differences(
    axis: Axes,
    norms: Sequence[str],
    differences: Mapping[str, Mapping[Pair, float]],
    lanes: Mapping[Pair, float],
    verdict: Verdict,
) -> None:
    """Draw each trial's difference to the best norm on the same fold, as a stem from the line."""
    axis.axvline(0.0, color=_NEUTRAL, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for place, norm in enumerate(norms):
        of_norm, test = differences.get(norm, {}), verdict.row(norm).difference
        pairs = [pair for pair in lanes if pair in of_norm]
        axis.hlines(
            [lanes[pair] - place for pair in pairs], 0.0, [of_norm[pair] for pair in pairs],
            color=style_of(norm).color, alpha=0.45, linewidth=1.2,
        )  # fmt: skip
        _points(axis, norm, place, of_norm, lanes)
        if norm == verdict.best:
            _summary(axis, norm, place, 0.0, 0.0, 0.0)
        elif test is not None:
            ends = (verdict.scale.factor * end for end in shown_ends(test))
            _summary(axis, norm, place, *ends)
    axis.set_xlabel(literal(labels.of_differences(verdict)))


def _chance(axis: Axes, level: float, values: Sequence[float], height: float, text: str) -> None:
    """Draw where the trivial predictor scores, or say on which side it lies far off."""
    mark = chance_mark(level, values, text)
    if mark.inside:
        axis.axvline(level, color=_NEUTRAL, linewidth=1.3, linestyle=":", zorder=1)
        axis.plot([level], [height], marker="|", color=_NEUTRAL, markersize=8, markeredgewidth=2)
    axis.annotate(
        mark.text, (mark.x, height), xytext=(-5 if mark.leftwards else 5, 0),
        textcoords="offset points", ha="right" if mark.leftwards else "left", va="center",
        fontsize=8, color="#5A5F66",
    )  # fmt: skip


def _rate_sensitivity(verdict: Verdict) -> Figure:
    """The mean validation score of every learning rate; large marks are the norms' best."""
    scale = verdict.scale
    found = {row.norm: row.sensitivity for row in verdict.rows if row.sensitivity is not None}
    figure = _new(3.4)
    axis = figure.subplots()
    for norm, one in found.items():
        look = _look(norm, verdict)
        known = [
            (rate, scale.factor * score, failed)
            for rate, score, failed in zip(one.rates, one.scores, one.failed, strict=True)
            if score is not None
        ]
        line = {**look, "markevery": []}  # they come one by one; the legend has them
        axis.plot([rate for rate, _, _ in known], [score for _, score, _ in known], **line)
        for rate, score, failed in known:
            axis.plot(
                [rate], [score], marker=look["marker"], color=look["color"], linestyle="",
                markersize=8.5 if rate == one.best else 4.5,
                markerfacecolor="white" if failed else look["color"],
            )  # fmt: skip
    axis.set_xscale("log")
    rates = next(iter(found.values())).rates
    axis.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axis.minorticks_off()
    axis.set_xlabel("Learning rate (log)")
    axis.set_ylabel(labels.axis(f"Validation {scale.metric.title}", scale.score_unit, scale))
    _legend(figure, axis)
    return figure


def _time_to_target(trials: Mapping[str, NormTrials], verdict: Verdict) -> Figure:
    """When each trial reached the target: steps and seconds, misses hollow behind the end."""
    times = speed.times_to_target(trials, verdict.target)
    norms = [row.norm for row in verdict.rows if row.norm in verdict.speed_order]
    figure = _new(_MARGIN + 1.4 * _ROW * len(norms))
    panels = figure.subplots(1, 2, sharey=True)
    lanes = lanes_of({pair for norm in norms for pair in times[norm].steps})
    for axis, unit in zip(panels, ("steps", "seconds"), strict=True):
        _rows(axis, [labels.of_norm(norm, verdict) for norm in norms])
        every: list[float] = []
        for place, norm in enumerate(norms):
            measured = times[norm].steps if unit == "steps" else times[norm].seconds
            reached = {pair: value for pair, value in measured.items() if 0 < value < math.inf}
            _points(axis, norm, place, reached, lanes)
            every += reached.values()
            missed = [pair for pair in lanes if measured.get(pair) == math.inf]
            if unit == "steps" and missed:
                bounds = [times[norm].bounds[pair] for pair in missed]
                every += bounds
                axis.plot(
                    bounds, [lanes[pair] - place for pair in missed], linestyle="", marker=">",
                    markeredgecolor=style_of(norm).color, markerfacecolor="none",
                )  # fmt: skip
            row = verdict.row(norm)
            median = row.steps_to_target if unit == "steps" else row.seconds_to_target
            if median is not None:
                _summary(axis, norm, place, median, median, median)
        _log_axis(axis, every)
        label = "Optimizer steps" if unit == "steps" else "Seconds of training"
        axis.set_xlabel(f"{label} to the target (log)")
    return figure


def _pairwise(verdict: Verdict) -> Figure:
    """Paired differences in score, and ratios of the steps to the target, with intervals."""
    scale = verdict.scale
    tests = shown_pairs(verdict.differences, verdict.best)
    ratios = shown_pairs(ratios_by_score(verdict), verdict.best)
    rows = max(len(tests), len(ratios), 1)
    figure = _new(_MARGIN + 0.9 * _ROW * rows)
    panels = figure.subplots(1, 2 if ratios else 1, squeeze=False).ravel()
    panels[0].set_xlabel(
        labels.axis(f"Difference in {scale.metric.title}", scale.difference_unit, scale)
    )
    for limit, alpha in ((verdict.detectable_after, 0.1), (verdict.margin, 0.16)):
        if limit:
            end = scale.factor * limit
            panels[0].axvspan(-end, end, color=_NEUTRAL, alpha=alpha, linewidth=0, zorder=0)
    _forest(panels[0], tests, between="−", factor=scale.factor, nothing=0.0)
    if ratios:
        ends = _forest(panels[1], ratios, between=":", factor=1.0, nothing=1.0)
        _log_axis(panels[1], [1.0, *ends])
        panels[1].set_xlabel("Ratio of steps to target (log)")
    return figure


def _forest(
    axis: Axes, tests: Sequence[PairedTest], *, between: str, factor: float, nothing: float
) -> list[float]:
    """Draw one interval per pair, filled if the two are told apart; return where they end."""
    names = [f"{display_name(test.first)} {between} {display_name(test.second)}" for test in tests]
    _rows(axis, names)
    axis.axvline(nothing, color=_NEUTRAL, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    ends: list[float] = []
    for place, test in enumerate(tests):
        color = style_of(test.first).color
        middle = factor * test.estimate.mean
        ends.append(middle)
        low, _, high = (factor * end for end in shown_ends(test))
        if math.isfinite(low):
            axis.plot([low, high], [-place, -place], color=color, zorder=2)
            ends += [low, high]
        axis.plot(
            [middle], [-place], marker="o", linestyle="", markersize=6, color=color,
            markerfacecolor=color if test.told_apart else "white", zorder=3,
        )  # fmt: skip
    return ends


def _look(norm: str, verdict: Verdict) -> dict[str, Any]:
    """Return how a norm is drawn where it is a line: the recommended one marked and thicker."""
    look = {**look_of(norm), "label": literal(labels.of_norm(norm, verdict))}
    return look | ({"linewidth": 2.3} if norm == verdict.recommended else {})


def _points(
    axis: Axes, norm: str, place: int, values: Mapping[Pair, float], lanes: Mapping[Pair, float]
) -> None:
    look = look_of(norm)
    pairs = [pair for pair in lanes if pair in values]
    axis.plot(
        [values[pair] for pair in pairs], [lanes[pair] - place for pair in pairs], linestyle="",
        marker=look["marker"], color=look["color"], alpha=0.75, markersize=4, zorder=2,
    )  # fmt: skip


def _summary(axis: Axes, norm: str, place: int, low: float, middle: float, high: float) -> None:
    y, color = SUMMARY_OFFSET - place, style_of(norm).color
    if low < high:
        axis.plot([low, high], [y, y], color=color)
    axis.plot([middle], [y], marker="|", color=color, markersize=8, markeredgewidth=2)


def _rows(axis: Axes, names: Sequence[str], foot: str = "") -> Axes:
    """Give an axis one labelled row per item, the first at the top; row i lies at y = −i.

    A lower row below all others, `foot`, lies at `foot_of`.
    """
    axis.set_ylim(0.5 - max(1, len(names)) - (FOOT if foot else 0.0), 0.5)
    named: dict[float, str] = {-place: literal(name) for place, name in enumerate(names)}
    if foot:
        named[foot_of(names)] = wrapped(foot)
    axis.set_yticks(list(named), list(named.values()))
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.grid(visible=False, axis="y")
    return axis


def _log_axis(axis: Axes, values: Sequence[float]) -> None:
    """Make the horizontal axis logarithmic, with round numbers around what it shows."""
    axis.set_xscale("log")
    ticks = log_ticks(values)
    low, high = axis.get_xlim()
    inside = [tick for tick in ticks if low <= tick <= high]
    axis.set_xticks(inside or ticks, [f"{tick:g}" for tick in inside or ticks])
    axis.minorticks_off()
    axis.set_xlim(low, high)


def _plain_logs(axis: Any) -> None:
    """Write 0.2 and not 2 × 10⁻¹ at a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def _new(height: float) -> Figure:
    from graphnorms.report.notebook import Picture

    return Picture(figsize=(WIDTH, height), layout="constrained")


def _legend(figure: Figure, axis: Axes) -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(6, max(1, len(names))))
