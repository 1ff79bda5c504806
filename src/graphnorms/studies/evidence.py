"""What a rule looks at: ratios and differences with intervals, and the verdict that follows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from graphnorms.lab.statistics import Estimate, mean_interval, paired_difference
from graphnorms.studies.measured_values import by_seed
from graphnorms.studies.study import CONFIDENCE as CONFIDENCE
from graphnorms.studies.study import Measured, Verdict

UNKNOWN = Estimate(math.nan, math.nan, math.nan)
"""Every comparison with it is false, so that nothing follows from it."""

Limits = Iterable[tuple[Estimate, float]]


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


def verdict_of(below: Limits = (), above: Limits = ()) -> Verdict:
    """Judge intervals by their limits.

    Confirmed if every interval lies on its side of its limit, not confirmed if one lies entirely
    on the other side, else inconclusive.

    Args:
        below: Estimates whose intervals must lie below a limit, with that limit.
        above: Estimates whose intervals must lie above one.
    """
    below, above = list(below), list(above)
    return decide(
        confirmed=all(each.high < limit for each, limit in below)
        and all(each.low > limit for each, limit in above),
        refuted=any(each.low > limit for each, limit in below)
        or any(each.high < limit for each, limit in above),
    )


def held_below(found: Estimate, limit: float) -> str:
    """Say whether the whole interval lies below a limit."""
    return "holds" if found.high < limit else "does not hold" if found.low > limit else "open"


def written(found: Estimate, digits: int = 2, *, significant: bool = False) -> str:
    """Write a value with its interval, `1.25 [1.10, 1.41]`, or alone if it has none.

    Args:
        found: The value.
        digits: Digits after the point, or significant ones.
        significant: Whether `digits` counts significant digits.
    """
    form = f".{digits}{'g' if significant else 'f'}"
    if math.isnan(found.low):
        return f"{found.mean:{form}}"
    return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"


def by_model(titles: Mapping[str, str], parts: Mapping[tuple[str, str], str]) -> str:
    """Write parts by model and norm: `MLP, digits: batch 1.00, layer 0.80; GIN, MUTAG: …`."""
    return "; ".join(
        f"{title}: "
        + ", ".join(f"{norm} {part}" for (m, norm), part in parts.items() if m == model)
        for model, title in titles.items()
    )


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
