"""Trained results beside published ones: differences with intervals, and what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import stats

from graphnorms.lab.phrases import several
from graphnorms.lab.statistics import CONFIDENCE, Estimate
from graphnorms.report.style import display_name
from graphnorms.reproduce.published_values import Published

if TYPE_CHECKING:
    from graphnorms.lab.comparison import Comparison
    from graphnorms.lab.design import Pair
    from graphnorms.lab.trials import NormTrials
    from graphnorms.reproduce.paper_runs import Cell

_PERCENT: Final = 100


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The score of a norm as it was trained here, in percent.

    Args:
        mean, std: Over folds, splits or seeds; the standard deviation is that of `numpy.std`, as
            the papers have it.
        number: How many.
        planned: How many the paper has.
        failed: Trials that failed.
        epoch: The epoch that all folds were scored at, if one was selected for all.
        less_published: The difference to the published mean with its interval, if there is one.
    """

    mean: float
    std: float
    number: int
    planned: int
    failed: int = 0
    epoch: int | None = None
    less_published: Estimate | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether the interval of the difference holds 0; None where it is not known."""
        found = self.less_published
        if found is None or math.isnan(found.low):
            return None
        return found.low <= 0 <= found.high


@dataclass(frozen=True, kw_only=True)
class Row:
    """A norm on a data set in a model.

    Args:
        dataset, model, norm: Which.
        published: What was published, if anything was.
        trained: What was trained here, by protocol.
    """

    dataset: str
    model: str
    norm: str
    published: Published | None
    trained: Mapping[str, Trained]


def rows_of(found: Sequence[tuple[Cell, Comparison]]) -> list[Row]:
    """Put trained beside published, norm by norm, in the order of the cells."""
    rows: dict[tuple[str, str, str], Row] = {}
    for cell, comparison in found:
        for norm, of_norm in comparison.trials.items():
            key = cell.dataset, cell.model, norm
            published = cell.paper.values.get(key)
            row = rows.get(key) or Row(
                dataset=cell.dataset,
                model=cell.model,
                norm=norm,
                published=published,
                trained={},
            )
            trained = _trained(cell, of_norm, published)
            if trained is not None:
                rows[key] = Row(**vars(row) | {"trained": {**row.trained, cell.protocol: trained}})
    return list(rows.values())


def _trained(cell: Cell, of_norm: NormTrials, published: Published | None) -> Trained | None:
    scores = list(of_norm.scores().values())
    if not scores:
        return None
    values = _PERCENT * np.array(scores)
    mean, std = float(values.mean()), float(values.std())
    less, number = None, cell.paper.counted[cell.dataset]
    if published is not None:
        less = difference_of_summaries(
            (mean, std, len(values)), (published.mean, published.std, number)
        )
    return Trained(
        mean=mean,
        std=std,
        number=len(values),
        planned=number,
        failed=len(of_norm.failed),
        epoch=None if of_norm.selected is None else of_norm.selected[1],
        less_published=less,
    )


Summary = tuple[float, float, int]
"""Mean, standard deviation as of `numpy.std`, and number."""


def difference_of_summaries(
    first: Summary, second: Summary, confidence: float = CONFIDENCE
) -> Estimate:
    r"""Estimate the difference of two means of which only summaries are known.

    $\bar a - \bar b \pm t_\nu \sqrt{s_a^2 / (n_a - 1) + s_b^2 / (n_b - 1)}$, where $s$ divides by
    $n$; $\nu$ after Welch and Satterthwaite. It takes the two for independent samples. Two runs
    over the same folds are alike in what makes a fold hard, so that the interval is rather too
    wide, and never tells apart what paired scores would not.

    Special cases: fewer than two scores on a side give no interval (NaN); equal scores on both
    sides give one of length 0.

    Source: Welch, Biometrika 34, 1947.
    """
    difference = first[0] - second[0]
    if min(first[2], second[2]) < 2:
        return Estimate(difference, math.nan, math.nan)
    parts = [std**2 / (number - 1) for _, std, number in (first, second)]
    variance = sum(parts)
    if variance == 0:
        return Estimate(difference, difference, difference)
    freedom = variance**2 / sum(
        part**2 / (number - 1) for part, (_, _, number) in zip(parts, (first, second), strict=True)
    )
    half = math.sqrt(variance) * float(stats.t.ppf((1 + confidence) / 2, freedom))
    return Estimate(difference, difference - half, difference + half)


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far a norm is ahead of another one, in percent points.

    Args:
        dataset, model, norm, other: Which.
        published: The difference of the published means, if both were published.
        recalled: Whether one of these was written down from memory.
        trained: The mean paired difference with its interval, by protocol.
    """

    dataset: str
    model: str
    norm: str
    other: str
    published: float | None
    recalled: bool
    trained: Mapping[str, Estimate]


def gaps_of(found: Sequence[tuple[Cell, Comparison]], norm: str) -> list[Gap]:
    """Compare a norm with every other one on the folds that both have.

    The interval is that of the lab: paired, and corrected for training sets that overlap.
    """
    gaps: dict[tuple[str, str, str], Gap] = {}
    for cell, comparison in found:
        trials = comparison.trials
        if norm not in trials:
            continue
        for other in trials:
            estimate = _paired(comparison, trials[norm].scores(), trials[other].scores())
            if other == norm or estimate is None:
                continue
            key = cell.dataset, cell.model, other
            gap = gaps.get(key) or _published_gap(cell, norm, other)
            gaps[key] = Gap(**vars(gap) | {"trained": {**gap.trained, cell.protocol: estimate}})
    return list(gaps.values())


def _paired(
    comparison: Comparison, first: Mapping[Pair, float], second: Mapping[Pair, float]
) -> Estimate | None:
    pairs = sorted(first.keys() & second.keys())
    if len(pairs) < 2:
        return None
    differences = {pair: _PERCENT * (first[pair] - second[pair]) for pair in pairs}
    design = comparison.trials.design
    return design.difference(design.values(differences)).estimate


def _published_gap(cell: Cell, norm: str, other: str) -> Gap:
    values = [cell.paper.values.get((cell.dataset, cell.model, each)) for each in (norm, other)]
    known = [each for each in values if each is not None]
    return Gap(
        dataset=cell.dataset,
        model=cell.model,
        norm=norm,
        other=other,
        published=known[0].mean - known[1].mean if len(known) == 2 else None,
        recalled=any(each.recalled for each in known),
        trained={},
    )


def conclusion(rows: Sequence[Row], protocols: Sequence[str]) -> str:
    """Say how many published values are reproduced, and by how much the others are missed.

    Args:
        rows: The rows; those whose folds are not all trained do not count.
        protocols: Those that are the authors'; of a row the first one that is trained in full.
    """
    judged = [
        (row, found[0])
        for row in rows
        if (
            found := [
                each
                for protocol in protocols
                if (each := row.trained.get(protocol)) is not None
                and each.agrees is not None
                and each.number == each.planned
            ]
        )
    ]
    if not judged:
        return "No published value has all its trials here yet, so nothing is said of any."
    missed = [(row, found) for row, found in judged if not found.agrees]
    differences = [found.less_published for _, found in judged if found.less_published]
    widest = max(each.half_width for each in differences)
    below = sum(each.mean < 0 for each in differences)
    within = len(judged) - len(missed)
    recalled = sum(row.published is not None and row.published.recalled for row, _ in judged)
    said = (
        f"Of {several(len(judged), 'published value')} trained here in full"
        f"{f' ({recalled} of them quoted from memory)' if recalled else ''}, {within} "
        f"{'comes' if within == 1 else 'come'} out again: the interval of the difference, up to "
        f"{widest:.1f} points to each side, holds 0. {below} of the {len(judged)} "
        f"{'is' if below == 1 else 'are'} lower here than published; the mean difference is "
        f"{signed(float(np.mean([each.mean for each in differences])))} points."
    )
    if not missed:
        return f"{said} None is missed."
    listed = "; ".join(
        f"{display_name(row.norm)} on {row.dataset} in {row.model.upper()} by "
        f"{written(found.less_published)} points"
        f"{' (quoted from memory)' if row.published and row.published.recalled else ''}"
        for row, found in missed
        if found.less_published is not None
    )
    return f"{said} Not reproduced: {listed}."


def leads(gaps: Sequence[Gap], protocols: Sequence[str]) -> str:
    """Say how many published leads of a norm over another have the same sign here, as a sentence.

    Args:
        gaps: How far it is ahead of the others.
        protocols: Those that are the authors'; of a pair the first one that is trained.
    """
    pairs = [
        (gap.published, found[0])
        for gap in gaps
        if gap.published is not None
        and (found := [gap.trained[each] for each in protocols if each in gap.trained])
    ]
    if not pairs:
        return ""
    alike = sum(published * found.mean > 0 for published, found in pairs)
    apart = sum(not found.low <= 0 <= found.high for _, found in pairs)
    published = [each for each, _ in pairs]
    return (
        f"Of {several(len(pairs), 'published difference')} between {display_name(gaps[0].norm)} "
        f"and another norm ({signed(min(published))} to {signed(max(published))} points), {alike} "
        f"{'has' if alike == 1 else 'have'} the same sign here, and {apart} "
        f"{'is' if apart == 1 else 'are'} told apart from 0."
    )


def written(estimate: Estimate | None) -> str:
    """Write a difference with its interval: `+1.2 [−0.4, +2.8]`."""
    if estimate is None:
        return "–"
    if math.isnan(estimate.low):
        return signed(estimate.mean)
    return f"{signed(estimate.mean)} [{signed(estimate.low)}, {signed(estimate.high)}]"


def signed(value: float) -> str:
    """Write points with a sign."""
    text = f"{abs(value):.1f}"
    return text if text == "0.0" else f"{'−' if value < 0 else '+'}{text}"
