"""The verdict in sentences: what the numbers allow to be said, and no more."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphnorms.lab.pairs import MINIMUM_FOLDS, PairedTest

if TYPE_CHECKING:
    from graphnorms.lab.verdict import NormSummary, Verdict

LONGEST_REASON = 90
MOST_NAMED = 6


@dataclass(frozen=True)
class Sentences:
    """What is said of accuracy, of speed, and of trials that failed or were not run."""

    accuracy: str
    speed: str
    failures: str


def describe(verdict: Verdict, name: Callable[[str], str] = str) -> Sentences:
    """Put a verdict into words.

    Args:
        verdict: The numbers; its sentences are not read.
        name: What a norm is called, given its catalogue name.
    """

    def called(norm: str) -> str:
        # "none is worse" would say the opposite of what it means.
        return f"'{name(norm)}'" if name(norm) == "none" else name(norm)

    return Sentences(
        accuracy=_accuracy(verdict, called),
        speed=_speed(verdict, called),
        failures=_failures(verdict, called),
    )


def design(*, norms: int, folds: int, detectable: float) -> str:
    """Say before a run what it can show.

    Args:
        norms: Norms compared.
        folds: Folds of the cross-validation.
        detectable: What `expected_detectable` gave, a fraction; NaN if nothing can be compared.
    """
    if math.isnan(detectable):
        return "Nothing can be compared: that takes two norms and two folds at least."
    if folds < MINIMUM_FOLDS:
        return f"{folds} folds are too few to judge; {MINIMUM_FOLDS} is the least."
    pairs = math.comb(norms, 2)
    over = f" over {pairs} pairs" if pairs > 1 else ""
    return (
        f"{folds} folds of this size show a difference in accuracy of about {points(detectable)} "
        f"or more (80% power at 5%{over}); a smaller one can go unseen."
    )


def percent(fraction: float, digits: int = 1) -> str:
    """Format a fraction as percent: 0.912 is 91.2%."""
    return f"{100 * fraction:.{digits}f}%"


def points(fraction: float) -> str:
    """Format a difference of fractions in percentage points: 0.063 is 6.3 points."""
    return f"{100 * fraction:.1f} points"


def seconds(value: float) -> str:
    """Format seconds, without the unit, in the digits that a stopwatch of the kind deserves."""
    return f"{value:.{2 if value < 1 else 1 if value < 10 else 0}f}"


def listing(words: Iterable[str]) -> str:
    """Join words: `a`, `a and b`, `a, b and c`."""
    items = list(words)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _accuracy(verdict: Verdict, name: Callable[[str], str]) -> str:
    if verdict.best is None:
        return "Accuracy: no trial was completed, so there is nothing to judge."
    best = verdict.row(verdict.best)
    if not verdict.conclusive:
        return f"Accuracy: {_inconclusive(verdict, best, name)}"
    worse = [test for test in _against(best.norm, verdict.differences) if test.told_apart]
    losses = _losses(best.norm, worse, name)
    # "Of all pairs" matters: of norms tied with the best, two can still differ from each other.
    if len(verdict.tied) == 1:
        sentence = f"{name(best.norm)} is best{_at(best)}, and {losses} {_be(worse)} worse."
    elif not any(test.told_apart for test in verdict.differences):
        tied = listing(map(name, verdict.tied))
        sentence = f"{tied} cannot be told apart on these {best.done} folds{_range(verdict)}."
    else:
        others = listing(map(name, verdict.tied[1:]))
        sentence = (
            f"{others} cannot be told apart from {name(best.norm)}, the highest{_at(best)}, "
            f"on these {best.done} folds"
        )
        sentence += f"; {losses} {_be(worse)} worse." if worse else "."
    return f"Accuracy: {sentence}{_detectable(verdict)}"


def _losses(best: str, worse: list[PairedTest], name: Callable[[str], str]) -> str:
    amounts = sorted(abs(test.estimate.mean) for test in worse)
    if len(amounts) > MOST_NAMED:
        return f"{len(amounts)} others (by {100 * amounts[0]:.1f} to {points(amounts[-1])})"
    return listing(
        f"{name(_other(best, test))} (by {points(abs(test.estimate.mean))})" for test in worse
    )


def _inconclusive(verdict: Verdict, best: NormSummary, name: Callable[[str], str]) -> str:
    if len(verdict.rows) == 1:
        return (
            f"{name(best.norm)} has{_at(best).removeprefix(' with')} on {_folds(best.done)}; "
            "there is no other norm to compare it with."
        )
    most = max((test.pairs for test in verdict.differences), default=0)
    return (
        f"inconclusive. No two norms share more than {_folds(most)}; a comparison takes "
        f"{MINIMUM_FOLDS} at least, and 10 to be of use."
    )


def _detectable(verdict: Verdict) -> str:
    if not verdict.detectable_after:
        return ""
    pairs = sum(test.adjusted_p is not None for test in verdict.differences)
    over = f" over all {pairs} pairs" if pairs > 1 else ""
    before = verdict.detectable_before
    expected = f"; expected before the run: {points(before)}" if before else ""
    return (
        f" A true difference under {points(verdict.detectable_after)} can go unseen here "
        f"(80% power at 5%{over}{expected})."
    )


def _speed(verdict: Verdict, name: Callable[[str], str]) -> str:
    target = verdict.target
    if target is None or not verdict.speed_order:
        return "Speed: no trial was completed, so there is nothing to judge."
    goal = f"{percent(target.accuracy, 0)} training accuracy"
    first = verdict.row(verdict.speed_order[0])
    if first.reached == 0:
        return f"Speed: no norm reached {goal}."
    soonest = f"{name(first.norm)} reaches {goal}{_when(first)}"
    tests = _against(first.norm, verdict.speed_differences)
    if not any(test.adjusted_p is not None for test in tests):
        why = "" if len(verdict.rows) == 1 else "; too few folds to judge the order"
        return f"Speed: {soonest}{why}."
    later = [test for test in tests if test.told_apart]
    tied = listing(map(name, verdict.speed_tied[1:]))
    if not later:
        return f"Speed: {soonest}, but {tied} cannot be told apart from it."
    sentence = f"{soonest}, {_sooner(first.norm, later, verdict.baseline, name)}"
    rest = [_other(first.norm, test) for test in later]
    quoted = _quoted(first.norm, later, verdict.baseline)
    rest.remove(_other(first.norm, quoted))
    if rest:
        named = listing(map(name, rest)) if len(rest) <= MOST_NAMED else f"{len(rest)} others"
        sentence += f"; {named} {'is' if len(rest) == 1 else 'are'} later too"
    if tied:
        sentence += f"; {tied} cannot be told apart from it"
    return f"Speed: {sentence}."


def _failures(verdict: Verdict, name: Callable[[str], str]) -> str:
    alike: dict[tuple[str, str], list[str]] = {}
    for row in verdict.rows:
        if row.failed:
            count = f"{'all' if row.failed == row.planned else f'{row.failed} of'} {row.planned}"
            alike.setdefault((count, _reason(row)), []).append(name(row.norm))
    sentences = []
    if alike:
        failed = listing(
            f"{listing(norms)} failed in {count} trials{' each' if len(norms) > 1 else ''} ({why})"
            for (count, why), norms in alike.items()
        )
        sentences.append(
            f"Failed: {failed}; a failed trial counts as missing the target and is left out of "
            "the accuracies."
        )
    missing = sum(row.planned - row.trials for row in verdict.rows)
    if missing:
        short = [
            f"{name(row.norm)} has {row.trials}"
            for row in verdict.rows
            if row.trials < row.planned and not row.judged
        ]
        planned = sum(row.planned for row in verdict.rows)
        # Where every norm falls short the accuracy sentence has said so.
        told = 0 < len(short) < len(verdict.rows)
        why = f" ({listing(short)} of {verdict.planned}: too few to judge)" if told else ""
        sentences.append(f"Not run: {missing} of {planned} trials{why}.")
    return " ".join(sentences)


def _reason(row: NormSummary) -> str:
    reason = row.reasons[0][0]
    if len(reason) > LONGEST_REASON:
        reason = reason[: LONGEST_REASON - 1] + "…"
    others = len(row.reasons) - 1
    return f"{reason}, and {others} other reason{'s' * (others > 1)}" if others else reason


def _at(row: NormSummary) -> str:
    accuracy = row.validation_accuracy
    if accuracy is None:
        return ""
    interval = ""
    if not math.isnan(accuracy.low):
        low, high = max(0.0, accuracy.low), min(1.0, accuracy.high)
        interval = f" ({100 * low:.1f} to {percent(high)})"
    return f" with {percent(accuracy.mean)}{interval} validation accuracy"


def _range(verdict: Verdict) -> str:
    means = [
        row.validation_accuracy.mean
        for row in verdict.rows
        if row.norm in verdict.tied and row.validation_accuracy is not None
    ]
    return f" (means of {100 * min(means):.1f} to {percent(max(means))} validation accuracy)"


def _when(row: NormSummary) -> str:
    if row.steps_to_target is None:
        return f" in {row.reached} of {row.trials} folds"
    measured = f", {seconds(row.seconds_to_target)} s" if row.seconds_to_target is not None else ""
    return f" in {row.steps_to_target:.0f} steps{measured} (median of folds)"


def _sooner(first: str, later: list[PairedTest], baseline: str, name: Callable[[str], str]) -> str:
    test = _quoted(first, later, baseline)
    ratio = test.estimate.mean
    factor = 1 / ratio if test.first == first else ratio
    bound = "at least " if test.censored else ""
    return f"on average {bound}{factor:.1f} × sooner than {name(_other(first, test))}"


def _quoted(first: str, later: list[PairedTest], baseline: str) -> PairedTest:
    """The comparison whose factor is given: that with the baseline, else with the slowest."""
    for test in later:
        if test.involves(baseline, first) and baseline != first:
            return test
    return max(later, key=lambda test: abs(math.log(test.estimate.mean)))


def _against(norm: str, tests: Iterable[PairedTest]) -> list[PairedTest]:
    return [test for test in tests if test.involves(norm)]


def _other(norm: str, test: PairedTest) -> str:
    return test.second if test.first == norm else test.first


def _be(items: list[PairedTest]) -> str:
    return "is" if len(items) == 1 else "are"


def _folds(count: int) -> str:
    return f"{count} fold" if count == 1 else f"{count} folds"
