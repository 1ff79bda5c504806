"""The speed of the norms in words: which reaches the training target soonest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from graphnorms.lab.phrases import MOST_NAMED, Name, be, listing, seconds, several
from graphnorms.lab.trivial import trivial_name
from graphnorms.lab.verdict_phrases import goal

if TYPE_CHECKING:
    from graphnorms.lab.paired_tests import PairedTest
    from graphnorms.lab.verdict import NormSummary, Verdict


def speed(verdict: Verdict, name: Name) -> str:
    """Say which norm reaches the training target soonest, and which norms are not timed."""
    return f"{_order(verdict, name)}{_untimed(verdict, name)}"


def _order(verdict: Verdict, name: Name) -> str:
    target = verdict.target
    if target is None and verdict.starts is not None and verdict.best is not None:
        return "Speed: not timed, as the trials report no train_score that all norms reach."
    if verdict.best is not None and not verdict.trained:
        return ""
    if target is None or not verdict.speed_order:
        if verdict.best is not None and verdict.trivial is not None:
            trivial = trivial_name(verdict.scale.metric)
            return f"Speed: not timed, as no {verdict.noun} is shown to beat {trivial}."
        if any(row.done for row in verdict.rows):
            return f"Speed: not timed, as no trial was completed by every {verdict.noun}."
        return "Speed: no trial was completed, so there is nothing to judge."
    first = verdict.row(verdict.speed_order[0])
    if first.reached == 0:
        return f"Speed: no {verdict.noun} reached {goal(verdict)}."
    soonest = f"{name(first.norm)} reaches {goal(verdict)}{_when(verdict, first)}"
    tests = [test for test in verdict.speed_differences if test.involves(first.norm)]
    if not any(test.adjusted_p is not None for test in tests):
        few = verdict.design.count(2).split()[1]
        why = "" if len(verdict.speed_order) == 1 else f"; too few {few} to judge the order"
        return f"Speed: {soonest}{why}."
    later = [test for test in tests if test.told_apart]
    tied = listing(map(name, verdict.speed_tied[1:]))
    if not later:
        return f"Speed: {soonest}, but {tied} cannot be told apart from it."
    quoted = _quoted(first.norm, later, verdict.baseline)
    sentence = f"{soonest}, {_sooner(first.norm, quoted, name)}"
    rest = [test.other(first.norm) for test in later if test is not quoted]
    if rest:
        named = listing(map(name, rest)) if len(rest) <= MOST_NAMED else f"{len(rest)} others"
        sentence += f"; {named} {be(len(rest))} later too"
    if tied:
        sentence += f"; {tied} cannot be told apart from it"
    return f"Speed: {sentence}."


def _untimed(verdict: Verdict, name: Name) -> str:
    """Name the norms that are not timed: they are not shown to beat the trivial predictor."""
    left = [row.norm for row in verdict.rows if row.score and row.norm not in verdict.speed_order]
    if verdict.target is None or not left:
        return ""
    trivial = trivial_name(verdict.scale.metric)
    return f" Not timed: {listing(map(name, left))}, not shown to beat {trivial}."


def _when(verdict: Verdict, row: NormSummary) -> str:
    if row.steps_to_target is None:
        return f" in {row.reached} of {row.trials} trials"
    measured = f", {seconds(row.seconds_to_target)} s" if row.seconds_to_target is not None else ""
    return f" in {several(row.steps_to_target, 'step')}{measured} (median of trials)"


def _sooner(first: str, test: PairedTest, name: Name) -> str:
    ratio = test.estimate.mean
    factor = 1 / ratio if test.first == first else ratio
    bound = "at least " if test.censored else ""
    return f"on average {bound}{factor:.1f} × sooner than {name(test.other(first))}"


def _quoted(first: str, later: list[PairedTest], baseline: str) -> PairedTest:
    """Return the comparison with the baseline, or with the slowest norm."""
    for test in later:
        if test.involves(baseline, first) and baseline != first:
            return test
    return max(later, key=lambda test: abs(math.log(test.estimate.mean)))
