"""The verdict in sentences: what the numbers allow to be said, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnorms.lab.design import Design
from graphnorms.lab.pairs import PairedTest
from graphnorms.lab.phrases import MOST_NAMED, Name, be, called_by, listing, percent, rough
from graphnorms.lab.recommendation import MOST_FAILED
from graphnorms.lab.scale import Scale
from graphnorms.lab.wording_choice import advice, rates
from graphnorms.lab.wording_failures import failures
from graphnorms.lab.wording_speed import speed
from graphnorms.training.metrics import metric_named

if TYPE_CHECKING:
    from graphnorms.lab.verdict import NormSummary, Verdict


@dataclass(frozen=True)
class Sentences:
    """What is said of the protocol, of scores, of what could be seen, of which norms are
    practically equal, of speed, of learning rates, of the norm to use, and of trials that failed
    or were not run.
    """

    protocol: str
    score: str
    power: str
    equal: str
    speed: str
    rates: str
    advice: str
    failures: str


def describe(verdict: Verdict, name: Name = str) -> Sentences:
    """Put a verdict into words.

    Args:
        verdict: The numbers; its sentences are not read.
        name: What a norm is called, given its catalogue name.
    """
    called = called_by(name)
    return Sentences(
        protocol=_protocol(verdict, called),
        score=f"{label(verdict)}: {_score(verdict, called)}",
        power=_power(verdict, called),
        equal=_equal(verdict, called),
        speed=speed(verdict, called),
        rates=rates(verdict, called),
        advice=advice(verdict, called),
        failures=failures(verdict, called),
    )


def design(
    *,
    protocol: str,
    metric: str,
    norms: int,
    pairs: int,
    detectable: float = math.nan,
    test_ratio: float = 0.0,
    unit: str = "",
) -> str:
    """Say before a run what it can show.

    Args:
        protocol: `"nested"`, `"split"` or `"paper"`.
        metric: Name of the score.
        norms: Norms compared.
        pairs: Folds, or seeds.
        detectable: What `expected_detectable` gave, in the unit of the score; NaN if unknown.
        test_ratio: n_test / n_train of a fold.
        unit: Unit of the target, of scores that are not fractions.
    """
    plan = Design(protocol=protocol, test_ratio=test_ratio)
    about = metric_named(metric)
    note = " " + protocol_note(plan) if protocol_note(plan) else ""
    if norms < 2:
        return "There is one norm, so nothing can be compared." + note
    comparisons = math.comb(norms, 2)
    minimum = plan.minimum(comparisons)
    over = f" over {comparisons} pairs of norms" if comparisons > 1 else ""
    if pairs < minimum:
        return (
            f"{plan.count(pairs)} {be(pairs)} too few to judge{over}: "
            f"{plan.least(comparisons)} are the least. The verdict will be inconclusive.{note}"
        )
    if math.isnan(detectable):
        return (
            f"Which difference in {about.title} {plan.count(pairs)} can show is not known before "
            f"something has been trained.{note}"
        )
    amount = Scale.fitting(about, detectable, unit).difference(detectable)
    return (
        f"{plan.count(pairs)} of this size show a difference in {about.title} of about {amount} "
        f"or more (80% power at 5%{over}); a smaller one can go unseen.{note}"
    )


PROTOCOL_NOTES = {
    "split": (
        "This speaks about this one split only: over another the norms may be ordered differently."
    ),
    "paper": (
        "Optimistic: learning rate and epoch are chosen on the same folds that then measure "
        "them, as in the GIN and GraphNorm papers, and no interval or p-value accounts for that."
    ),
}
"""What has to be said with every result of a protocol."""


def protocol_note(design: Design) -> str:
    """Say what has to be said with every result of a design."""
    if design.protocol == "split" and design.by_fold:
        return "This speaks about splits such as the given ones."
    return PROTOCOL_NOTES.get(design.protocol, "")


def label(verdict: Verdict) -> str:
    """Say what the score is: `Test accuracy`, `Test MAE (lower is better)`, `Optimistic …`."""
    metric = verdict.scale.metric
    which = "Optimistic validation" if verdict.optimistic else "Test"
    return f"{which} {metric.title}{'' if metric.higher_is_better else ' (lower is better)'}"


def margin(verdict: Verdict) -> str:
    """Say the margin: `1 point`, `0.0061 (1% of the MAE of 'none')`."""
    amount = verdict.scale.difference(verdict.margin)
    if verdict.scale.metric.fraction:
        return amount
    unit = verdict.scale.difference_unit
    amount = f"{verdict.margin:.2g} {unit}".rstrip()
    return f"{amount} ({verdict.margin_source})" if verdict.margin_source else amount


def _protocol(verdict: Verdict, name: Name) -> str:
    note = protocol_note(verdict.design)
    lasts = [(row.norm, row.last) for row in verdict.rows if row.last is not None]
    if not verdict.optimistic or not lasts:
        return note
    shown = [f"{name(norm)} {verdict.scale.score(last.mean)}" for norm, last in lasts[:MOST_NAMED]]
    return f"{note} After the last epoch at that rate: {listing(shown)}."


def _score(verdict: Verdict, name: Name) -> str:
    if verdict.best is None:
        if verdict.completed:
            return "inconclusive: no trial was completed by every norm."
        return "no trial was completed, so there is nothing to judge."
    best = verdict.row(verdict.best)
    if not verdict.conclusive:
        return _inconclusive(verdict, best, name)
    return f"{_ranked(verdict, best, name)}{_which_trials(verdict, name)}"


def _which_trials(verdict: Verdict, name: Name) -> str:
    """Say on which trials the norms were compared, and which norms were not."""
    text = ""
    if verdict.shared < verdict.completed:
        text = (
            f" Compared on the {verdict.shared} of {verdict.completed} trials that every norm "
            "ranked here completed."
        )
    failing = [
        f"{name(row.norm)} ({row.failed} of {row.trials} trials failed)"
        for row in verdict.rows
        if row.unreliable and row.norm not in verdict.contenders
    ]
    if failing:
        text += f" Not ranked, as more than {percent(MOST_FAILED, 0)} failed: {listing(failing)}."
    return text


def _ranked(verdict: Verdict, best: NormSummary, name: Name) -> str:
    against = [test for test in verdict.differences if test.involves(best.norm)]
    worse = [
        test for test in against if test.told_apart and test.other(best.norm) in verdict.contenders
    ]
    losses = _losses(verdict, worse, name)
    here = f"on {'these' if best.pairs > 1 else 'this'} {verdict.design.count(best.pairs)}"
    # "Of all pairs" matters: of norms tied with the best, two can still differ from each other.
    if len(verdict.tied) == 1:
        sentence = f"{name(best.norm)} is best{_at(verdict, best)}"
        sentence += f", and {losses} {be(len(worse))} worse." if worse else "."
    elif not any(test.told_apart for test in verdict.differences):
        tied = listing(map(name, verdict.tied))
        sentence = f"{tied} cannot be told apart {here}{_range(verdict)}."
    else:
        others = listing(map(name, verdict.tied[1:]))
        sentence = (
            f"{others} cannot be told apart from {name(best.norm)}, the best"
            f"{_at(verdict, best)}, {here}"
        )
        sentence += f"; {losses} {be(len(worse))} worse." if worse else "."
    return sentence


def _losses(verdict: Verdict, worse: list[PairedTest], name: Name) -> str:
    scale, best = verdict.scale, verdict.best or ""
    amounts = sorted(abs(test.estimate.mean) for test in worse)
    if len(amounts) > MOST_NAMED:
        span = f"{scale.number(amounts[0])} to {scale.difference(amounts[-1])}"
        return f"{len(amounts)} others (by {span})"
    return listing(
        f"{name(test.other(best))} (by {scale.difference(abs(test.estimate.mean))})"
        for test in worse
    )


def _inconclusive(verdict: Verdict, best: NormSummary, name: Name) -> str:
    count = verdict.design.count
    if len(verdict.rows) == 1:
        at = _at(verdict, best).removeprefix(" with ")
        return (
            f"{name(best.norm)} has {at} on {count(best.pairs)}; "
            "there is no other norm to compare it with."
        )
    most = max((test.pairs for test in verdict.differences), default=0)
    minimum, design = verdict.minimum, verdict.design
    shared = f"inconclusive. The norms share no more than {count(most)}, and to judge "
    if design.folds and minimum > design.folds:
        # More folds of this size there are none: the data would have to be cut into more.
        least = design.least(math.comb(len(verdict.rows), 2))
        return f"{shared}{len(verdict.rows)} norms takes {least} at least: ask for {least} folds."
    if design.protocol == "split" and design.by_fold:
        return f"{shared}{len(verdict.rows)} norms takes {minimum} at least, which are not given."
    return (
        f"{shared}{len(verdict.rows)} norms takes {minimum} at least: {count(minimum - most)} more "
        "of each."
    )


def _power(verdict: Verdict, name: Name) -> str:
    """Say which difference could be seen, and what it would take to see a smaller one."""
    after, before = verdict.detectable_after, verdict.detectable_before
    if not after:
        return ""
    pairs = sum(test.adjusted_p is not None for test in verdict.differences)
    over = f" over all {pairs} pairs" if pairs > 1 else ""
    expected = f"; expected before: {verdict.scale.difference(before)}" if before else ""
    return (
        f"Power: a true difference under {verdict.scale.difference(after)} can go unseen here "
        f"(80% power at 5%{over}{expected}).{_needed(verdict, name)}"
    )


def _needed(verdict: Verdict, name: Name) -> str:
    """Say what it would take to see the difference that was seen, or one of the margin."""
    after, scale, count = verdict.detectable_after, verdict.scale, verdict.design.count
    if not after or after <= verdict.margin or len(verdict.tied) < 2:
        return ""
    best = verdict.tied[0]
    tests = (test for test in verdict.differences if test.involves(best))
    undecided = [test for test in tests if test.other(best) in verdict.tied]
    widest = max(undecided, key=lambda test: abs(test.estimate.mean))
    seen = abs(widest.estimate.mean)
    parts = []
    if widest.needed is not None and seen > verdict.margin:
        parts.append(
            f"One as large as between {name(widest.first)} and {name(widest.second)} "
            f"({scale.difference(seen)}) would take about {count(widest.needed)}"
        )
    least = f"{'one' if parts else 'One'} of {margin(verdict)}, the margin,"
    if verdict.needed_for_margin is not None:
        parts.append(
            f"{least} {'' if parts else 'would take '}about {count(verdict.needed_for_margin)}"
        )
    else:
        times = rough((after / verdict.margin) ** 2)
        would = "" if parts else "would take "
        parts.append(f"{least} {would}about {times} times as much data: more folds do not do it")
    return f" {', '.join(parts)}."


def _equal(verdict: Verdict, name: Name) -> str:
    if not verdict.conclusive:
        return ""
    equal = [test for test in verdict.differences if test.practically_equal]
    within = f"within {margin(verdict).partition(' (')[0]}"
    if len(equal) > MOST_NAMED:
        return f"Practically equal: {len(equal)} pairs, {within}."
    if equal:
        named = listing(f"{name(test.first)} with {name(test.second)}" for test in equal)
        return f"Practically equal: {named}, {within}."
    if len(verdict.tied) > 1:
        return f"Practically equal: no pair is shown to be {within}."
    return ""


def _at(verdict: Verdict, row: NormSummary) -> str:
    score, scale = row.score, verdict.scale
    if score is None:
        return ""
    interval = ""
    if not math.isnan(score.low):
        interval = f" ({scale.number(score.low)} to {scale.score(score.high)})"
    return f" with {scale.score(score.mean)}{interval}"


def _range(verdict: Verdict) -> str:
    means = [row.score.mean for row in verdict.rows if row.norm in verdict.tied and row.score]
    return f" (means of {verdict.scale.number(min(means))} to {verdict.scale.score(max(means))})"
