"""A verdict in sentences: what the numbers allow to conclude, and no more."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from graphnorms.lab.advice_sentences import advice
from graphnorms.lab.design import Design
from graphnorms.lab.equal_starts import starts_sentence
from graphnorms.lab.paired_tests import PairedTest
from graphnorms.lab.phrases import MOST_NAMED, Name, be, called_by, listing, rough, several
from graphnorms.lab.power import MOST_PAIRS
from graphnorms.lab.rate_sentences import chosen, rates
from graphnorms.lab.recommendation import MOST_FAILED
from graphnorms.lab.speed_sentences import speed
from graphnorms.lab.verdict_phrases import label, margin

if TYPE_CHECKING:
    from graphnorms.lab.verdict import NormSummary, Verdict

LONGEST_REASON: Final = 90


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """A verdict in words; a sentence may be empty.

    Args:
        advice: Which norm to use, and why.
        score: Which norms score best, and which differ from the best.
        power: Which differences this comparison could have found.
        equal: Which norms are practically equal.
        speed: Which norm reaches the training target soonest.
        rates: How much each norm depends on its learning rate.
        chosen: What a search has chosen for each norm.
        failures: Which trials failed, or were not run.
        last: The scores after the last epoch, if those of the best epoch are optimistic.
        starts: What norms had in common in training that is not the lab's.
        protocol: What the protocol allows to conclude.
        optimistic: Whether scores come from data that chose the epoch and the learning rate.
    """

    advice: str
    score: str
    power: str
    equal: str
    speed: str
    rates: str
    chosen: str
    failures: str
    last: str
    starts: str
    protocol: str
    optimistic: bool

    @property
    def headline(self) -> tuple[str, ...]:
        """What to read first: the advice, the scores, and what failed.

        Where the scores are optimistic, that comes before all.
        """
        caveat = self.protocol if self.optimistic else ""
        return tuple(filter(None, (caveat, self.advice, self.score, self.failures)))

    @property
    def details(self) -> tuple[str, ...]:
        """What the headline leaves out."""
        caveat = "" if self.optimistic else self.protocol
        of_training = (self.speed, self.rates, self.chosen, self.last, self.starts)
        found = (self.power, self.equal, *of_training, caveat)
        return tuple(filter(None, found))

    @property
    def text(self) -> str:
        """All sentences, one after the other."""
        return " ".join((*self.headline, *self.details))

    def to_dict(self) -> dict[str, str]:
        """Return the sentences by name."""
        return {name: text for name, text in vars(self).items() if name != "optimistic"}


def sentences(verdict: Verdict, names: Name = str) -> Sentences:
    """Put a verdict into words.

    Args:
        verdict: The numbers.
        names: What a norm is called, given its catalogue name.
    """
    name = called_by(names)
    return Sentences(
        advice=advice(verdict, name),
        score=f"{label(verdict)}: {_score(verdict, name)}",
        power=_power(verdict, name),
        equal=_equal(verdict, name),
        speed=speed(verdict, name),
        rates=rates(verdict, name),
        chosen=chosen(verdict, name),
        failures=_failures(verdict, name),
        last=_last(verdict, name),
        starts="" if verdict.starts is None else starts_sentence(verdict.starts, name),
        protocol=protocol_note(verdict.design),
        optimistic=verdict.optimistic,
    )


def least_pairs(design: Design, comparisons: int) -> str:
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
    "split": ("This speaks about this one split only: on another the order may differ."),
    "paper": (
        "Optimistic: learning rate and epoch are chosen on the folds that then measure them, and "
        "no interval or p-value accounts for that."
    ),
}
"""Caveats for every result of a protocol."""


def protocol_note(design: Design) -> str:
    """Return the caveat for every result of a design."""
    if design.protocol == "split" and design.by_fold:
        return "This speaks about splits such as the given ones."
    return PROTOCOL_NOTES.get(design.protocol, "")


def _last(verdict: Verdict, name: Name) -> str:
    lasts = [(row.norm, row.last) for row in verdict.rows if row.last is not None]
    if not verdict.optimistic or not lasts:
        return ""
    shown = [f"{name(norm)} {verdict.scale.score(last.mean)}" for norm, last in lasts[:MOST_NAMED]]
    return f"After the last epoch at the chosen rate: {listing(shown)}."


def _score(verdict: Verdict, name: Name) -> str:
    if verdict.best is None:
        if verdict.completed:
            return f"inconclusive, as no trial was completed by every {verdict.noun}."
        return "no trial was completed, so there is nothing to judge."
    best = verdict.row(verdict.best)
    if not verdict.conclusive:
        return f"{_inconclusive(verdict, best, name)}{_which_trials(verdict, name)}"
    return f"{_ranked(verdict, best, name)}{_which_trials(verdict, name)}"


def _which_trials(verdict: Verdict, name: Name) -> str:
    """Say on which trials the norms were compared, and which norms were not."""
    text = ""
    if verdict.conclusive and verdict.shared < verdict.completed:
        text = (
            f" Compared on the {verdict.shared} of {verdict.completed} trials that every "
            f"{verdict.noun} ranked here completed."
        )
    failing = [
        f"{name(row.norm)} ({row.failed} of {row.trials} trials failed)"
        for row in verdict.rows
        if row.unreliable and row.norm not in verdict.contenders
    ]
    if failing:
        text += f" Not ranked, as more than {MOST_FAILED:.0%} failed: {listing(failing)}."
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
            f"there is no other {verdict.noun} to compare it with."
        )
    most = max((test.pairs for test in verdict.differences), default=0)
    minimum, design = verdict.minimum, verdict.design
    compared = f"{len(verdict.rows)} {verdict.noun}s"
    shared = f"inconclusive, as {count(most)} {be(most)} too few. To judge "
    if design.folds and minimum > design.folds:
        # More folds of this size take another cross-validation, or the data are cut into more.
        least = least_pairs(design, math.comb(len(verdict.rows), 2))
        return f"{shared}{compared} takes {least}."
    if design.protocol == "split" and design.by_fold:
        if minimum >= MOST_PAIRS:
            return (
                f"inconclusive: the parts that are tested overlap, and each has "
                f"{design.test_ratio:.2g} times the items that are trained on; no number of such "
                f"splits is enough to judge {compared}. Train on more, or test on less."
            )
        return f"{shared}{compared} takes at least {minimum}, which are not given."
    number, _, noun = count(minimum - most).partition(" ")
    return f"{shared}{compared} takes at least {minimum}: {number} more {noun} of each."


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


def _failures(verdict: Verdict, name: Name) -> str:
    """Name what failed, with the reason, and what was not run; empty if all went well."""
    sentences = []
    timed = verdict.trained or verdict.noun == "norm"
    final = _failed(
        [(name(row.norm), row.failed, row.planned, row.reasons) for row in verdict.rows], "trials"
    )
    if final:
        sentences.append(
            f"Failed: {final}; a failed trial {'counts as missing the target and ' * timed}is left "
            "out of the scores."
        )
    # In protocol "paper" the trials of the chosen rate are among those that choose it.
    tried = _failed(
        [
            (name(row.norm), row.tried_failed, row.tried, row.tried_reasons)
            for row in verdict.rows
            if not (verdict.optimistic and row.tried_failed == row.failed)
        ],
        "trials that choose the learning rate",
    )
    if tried:
        sentences.append(f"Failed: {tried}.")
    planned = verdict.planned_of_norm
    missing = sum(max(0, planned - verdict.ended(row)) for row in verdict.rows)
    if missing:
        short = [
            f"{name(row.norm)} has {row.trials}"
            for row in verdict.rows
            if row.trials < row.planned and not row.judged
        ]
        # Where every norm falls short the sentence on scores has said so.
        told = 0 < len(short) < len(verdict.rows)
        scored = "" if planned == verdict.planned else "of those with a score "
        why = f" ({scored}{listing(short)} of {verdict.planned}: too few to judge)" if told else ""
        sentences.append(f"Not run: {missing} of {planned * len(verdict.rows)} trials{why}.")
    return " ".join(sentences)


def _failed(rows: Sequence[tuple[str, int, int, tuple[tuple[str, int], ...]]], what: str) -> str:
    alike: dict[tuple[str, str], list[str]] = {}
    for norm, failed, of, reasons in rows:
        if failed:
            count = f"{'all' if failed == of else f'{failed} of'} {of}"
            alike.setdefault((count, _reason(reasons)), []).append(norm)
    return listing(
        f"{listing(norms)} failed in {count} {what}{' each' if len(norms) > 1 else ''} ({why})"
        for (count, why), norms in alike.items()
    )


def _reason(reasons: tuple[tuple[str, int], ...]) -> str:
    reason = reasons[0][0]
    if len(reason) > LONGEST_REASON:
        reason = reason[: LONGEST_REASON - 1] + "…"
    others = len(reasons) - 1
    return f"{reason}, and {others} other reason{'s' * (others > 1)}" if others else reason
