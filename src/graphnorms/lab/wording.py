"""The verdict in sentences: what the numbers allow to be said, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnorms.lab.design import Design
from graphnorms.lab.number_format import Scale
from graphnorms.lab.paired_tests import PairedTest
from graphnorms.lab.phrases import MOST_NAMED, Name, be, called_by, listing, percent, rough, several
from graphnorms.lab.power import MOST_PAIRS
from graphnorms.lab.recommendation import MOST_FAILED
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
    folds: int = 0,
    unit: str = "",
) -> str:
    """Say before a run what it can show.

    Args:
        protocol: `"nested"`, `"split"` or `"paper"`.
        metric: Name of the score.
        norms: Norms compared.
        pairs: Folds of all repeats, or seeds.
        detectable: What `expected_detectable` gave, in the unit of the score; NaN if unknown.
        test_ratio: n_test / n_train of a fold.
        folds: Of one cross-validation; 0 where there is none.
        unit: Unit of the target, of scores that are not fractions.
    """
    plan = Design(protocol=protocol, test_ratio=test_ratio, folds=folds)
    about = metric_named(metric)
    note = " " + protocol_note(plan) if protocol_note(plan) else ""
    if norms < 2:
        return "There is one norm, so nothing can be compared." + note
    comparisons = math.comb(norms, 2)
    minimum = plan.minimum(comparisons)
    over = f" over {comparisons} pairs of norms" if comparisons > 1 else ""
    count = plan.count(pairs)
    if folds and pairs > folds:
        count += f" ({several(pairs / folds, 'repeat')} of {folds})"
    if pairs < minimum:
        return (
            f"{count} {be(pairs)} too few to judge{over}: it takes {_least(plan, comparisons)}. "
            f"The verdict will be inconclusive.{note}"
        )
    if math.isnan(detectable):
        return (
            f"Which difference in {about.title} {count} can show is not known before "
            f"something has been trained.{note}"
        )
    scale = Scale.fitting(about, detectable, unit)
    limit = ""
    if folds:
        share = plan.reachable(1.0, comparisons) / plan.detectable(1.0, pairs, comparisons)
        limit = f" More repeats show {scale.difference(share * detectable)} at best."
    return (
        f"{count} of this size show a difference in {about.title} of about "
        f"{scale.difference(detectable)} or more (80% power at 5%{over}); a smaller one can go "
        f"unseen.{limit}{note}"
    )


def _least(design: Design, comparisons: int) -> str:
    """Say how many are judged: `6 seeds`, `one cross-validation of 8 folds or 2 repeats of 5`."""
    least = design.count(design.least(comparisons))
    if not design.folds:
        return least
    minimum = design.minimum(comparisons)
    possible = design.folds < minimum < MOST_PAIRS
    repeats = f" or {math.ceil(minimum / design.folds)} repeats of {design.folds}" * possible
    return f"one cross-validation of {least}{repeats}"


def _repeats(design: Design, pairs: int) -> str:
    """Say how often the data are cut into folds for so many: `2 repeats of the 10 folds`."""
    repeats = several(math.ceil(pairs / design.folds), "repeat")
    return f"{repeats} of the {design.count(design.folds)}"


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
        # More folds of this size take another cross-validation, or the data are cut into more.
        least = _least(design, math.comb(len(verdict.rows), 2))
        return f"{shared}{len(verdict.rows)} norms takes {least}."
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
    after, scale = verdict.detectable_after, verdict.scale
    if not after or after <= verdict.margin or len(verdict.tied) < 2:
        return ""
    best = verdict.tied[0]
    tests = (test for test in verdict.differences if test.involves(best))
    undecided = [test for test in tests if test.other(best) in verdict.tied]
    widest = max(undecided, key=lambda test: abs(test.estimate.mean))
    seen = abs(widest.estimate.mean)
    wanted = [(f"One of {margin(verdict)}, the margin,", verdict.margin, verdict.needed_for_margin)]
    if verdict.margin < seen < after and (widest.needed or math.inf) > widest.pairs:
        whose = f"between {name(widest.first)} and {name(widest.second)}"
        seen_one = f"One as large as {whose} ({scale.difference(seen)})"
        wanted.insert(0, (seen_one, seen, widest.needed))
    parts = [
        f"{subject} would take about {_effort(verdict, difference, pairs)}"
        for subject, difference, pairs in wanted
    ]
    text = parts[0] + "".join(f"; {part[0].lower()}{part[1:]}" for part in parts[1:])
    if verdict.design.by_fold and wanted[-1][2] is None:
        more = "repeats" if verdict.design.folds else "such splits"
        text += f": more {more} show {scale.difference(verdict.detectable_at_best or 0.0)} at best"
    return f" {text}."


def _effort(verdict: Verdict, difference: float, pairs: int | None) -> str:
    """Say how many repeats, splits or seeds show a difference, or how much more data."""
    design = verdict.design
    if pairs is not None:
        return _repeats(design, pairs) if design.folds else design.count(pairs)
    if not design.by_fold:
        return f"more than {design.count(MOST_PAIRS)}"
    return f"{rough(((verdict.detectable_after or math.nan) / difference) ** 2)} times as much data"


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
    return f"Practically equal: no pair is shown to be {within}."


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
