"""What a rule looks at: ratios and differences with intervals, and the verdict that follows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from graphnorms.lab.phrases import be
from graphnorms.lab.statistics import Estimate, mean_interval, paired_difference
from graphnorms.studies.measured_values import by_seed
from graphnorms.studies.study import CONFIDENCE as CONFIDENCE
from graphnorms.studies.study import Measured, Verdict

UNKNOWN = Estimate(math.nan, math.nan, math.nan)
"""Every comparison with it is false, so that nothing follows from it."""

MOST_NAMED = 3
"""Intervals that a sentence names; a table has the others."""


def paired_ratio(
    first: ArrayLike, second: ArrayLike, *, confidence: float = CONFIDENCE
) -> Estimate:
    r"""Estimate the ratio `first / second` of positive numbers, paired by position.

    The mean of $\log(a_i / b_i)$ with Student's interval, mapped back by exp: the geometric mean
    of the ratios. NaN if a number is not finite or not positive: a failed run must not be left
    out. A single pair has no interval.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not all(np.isfinite(part).all() and (part > 0).all() for part in (a, b)):
        return UNKNOWN
    found = mean_interval(np.log(a / b), confidence=confidence)
    return Estimate(*(math.exp(end) for end in (found.mean, found.low, found.high)))


def ratio(
    measured: Measured, value: str, *, confidence: float = CONFIDENCE, **cases: object
) -> Estimate:
    """Estimate the ratio of a value between two groups of cases, paired by seed.

    Args:
        measured: What was measured.
        value: The name of the value.
        confidence: Coverage of the interval.
        cases: What the cases have in common, and the one key in which the groups differ with a
            tuple: `ratio(measured, "loss", model="gin", norm=("batch", "none"))` is batch / none.
    """
    return paired_ratio(*_groups(measured, value, cases), confidence=confidence)


def difference(
    measured: Measured, value: str, *, confidence: float = CONFIDENCE, **cases: object
) -> Estimate:
    """Estimate the difference of a value between two groups of cases; arguments as of `ratio`."""
    first, second = _groups(measured, value, cases)
    return paired_difference(first, second, confidence=confidence).estimate


def _groups(measured: Measured, value: str, cases: dict[str, object]) -> list[list[float]]:
    ((key, pair),) = [(key, each) for key, each in cases.items() if isinstance(each, tuple)]
    return [by_seed(measured, value, **cases | {key: each}) for each in pair]


def decide(confirmed: bool, refuted: bool) -> Verdict:
    """Return the verdict of two conditions that exclude each other."""
    if confirmed and refuted:
        raise ValueError("a rule confirmed and refuted the same numbers, expected one of them")
    return "confirmed" if confirmed else "not confirmed" if refuted else "inconclusive"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a rule asks: an interval on one side of a limit.

    Args:
        name: What is estimated, and where.
        found: The value with its interval.
        limit: The limit.
        above: Whether the interval must lie above the limit, or below it.
    """

    name: str
    found: Estimate
    limit: float
    above: bool = False

    @property
    def holds(self) -> bool:
        """Whether the whole interval lies on its side."""
        return self.found.low > self.limit if self.above else self.found.high < self.limit

    @property
    def margin(self) -> float:
        """By which factor, as a logarithm, the interval that holds keeps from its limit."""
        inner, outer = (self.limit, self.found.low) if self.above else (self.found.high, self.limit)
        return math.log(outer / inner) if min(inner, outer) > 0 else math.inf

    @property
    def fails(self) -> bool:
        """Whether the whole interval lies on the other side."""
        return self.found.high < self.limit if self.above else self.found.low > self.limit


def verdict_of(checks: Iterable[Check]) -> Verdict:
    """Judge intervals by their limits.

    Confirmed if every interval lies on its side of its limit, not confirmed if one lies entirely
    on the other side, else inconclusive.
    """
    checks = list(checks)
    return decide(
        confirmed=all(each.holds for each in checks), refuted=any(each.fails for each in checks)
    )


def summary(checks: Iterable[Check], digits: int = 2, *, significant: bool = False) -> str:
    """Say how many intervals are as predicted, and name the others with their values.

    Args:
        checks: What the rule asks.
        digits, significant: How values are written, see `written`.
    """
    checks = list(checks)
    against = [each for each in checks if each.fails]
    undecided = [each for each in checks if not (each.fails or each.holds)]
    held, number = len(checks) - len(against) - len(undecided), len(checks)

    def named(some: list[Check]) -> str:
        shown = some if len(some) <= MOST_NAMED else some[: MOST_NAMED - 1]
        parts = [
            f"{each.name}, {written(each.found, digits, significant=significant)}" for each in shown
        ]
        return "; ".join(parts) + (f"; and {len(some) - len(shown)} more" if some != shown else "")

    if held == number:
        closest = min(checks, key=lambda each: each.margin)
        return (
            f"{'Both' if number == 2 else f'All {number}'} intervals are as predicted; the closest "
            f"to its limit is {named([closest])}."
        )
    count = f"{held} of the {number} intervals {be(held)}"
    sentences = [f"{count if held else f'None of the {number} intervals is'} as predicted."]
    if against:
        sentences.append(f"Contrary to the prediction: {named(against)}.")
    if undecided:
        sentences.append(f"Undecided, because the limit lies inside: {named(undecided)}.")
    return " ".join(sentences)


def concluded(verdict: Verdict, *, yes: str, no: str) -> str:
    """Return the sentence that belongs to a verdict."""
    if verdict != "inconclusive":
        return yes if verdict == "confirmed" else no
    first = yes.partition(" ")[0]
    is_name = any(letter.isupper() for letter in first[1:])  # BatchNorm
    return f"It remains open whether {yes if is_name else yes[0].lower() + yes[1:]}"


def written(found: Estimate, digits: int = 2, *, significant: bool = False) -> str:
    """Write a value with its interval, `1.25 [1.10, 1.41]`, or alone if it has none.

    Args:
        found: The value.
        digits: Digits after the point, or significant ones.
        significant: Whether `digits` counts significant digits.
    """
    form = f"z.{digits}{'g' if significant else 'f'}"  # z: no −0.00
    if math.isnan(found.low):
        return f"{found.mean:{form}}"
    return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"


def numbers_of(estimates: Mapping[str, Estimate]) -> dict[str, float | None]:
    """Return estimates and the ends of their intervals by name, as a finding keeps them."""
    ends = {
        key: end
        for name, each in estimates.items()
        for key, end in (
            (name, each.mean),
            (f"{name}, low", each.low),
            (f"{name}, high", each.high),
        )
    }
    return {key: end if math.isfinite(end) else None for key, end in ends.items()}
