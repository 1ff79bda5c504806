"""Ratios of two measurements with the same seeds, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graphnorms.lab.statistics import Estimate, mean_interval
from graphnorms.studies.study import CONFIDENCE, Measurement, where

UNKNOWN = Estimate(math.nan, math.nan, math.nan)
"""What nothing follows from: every comparison with it is false."""


def by_seed(measurements: Sequence[Measurement], value: str, **chosen: object) -> list[float]:
    """Return one value of the cases chosen, in the order of their seeds; NaN where it is `None`.

    Raises:
        ValueError: No case is chosen, or two have the same seed.
    """
    found = sorted(where(measurements, **chosen), key=lambda one: int(one.case["seed"]))
    seeds = [one.case["seed"] for one in found]
    if not found or len(set(seeds)) < len(seeds):
        raise ValueError(f"{chosen} has the seeds {seeds}, expected one case for each")
    values = [one.values[value] for one in found]
    return [math.nan if value is None else float(value) for value in values]


def curves(
    measurements: Sequence[Measurement],
    value: str,
    key: str,
    places: Sequence[object],
    **chosen: object,
) -> list[tuple[float, ...]]:
    """Return one value over the places of one key of the case, a curve per seed."""
    columns = [by_seed(measurements, value, **{key: place}, **chosen) for place in places]
    return list(zip(*columns, strict=True))


def paired_ratio(
    first: ArrayLike, second: ArrayLike, *, confidence: float = CONFIDENCE
) -> Estimate:
    r"""Estimate the ratio `first / second` of positive numbers, paired by position.

    The mean of $\log(a_i / b_i)$ with Student's interval, taken back by exp: the geometric
    mean of the ratios.

    Special cases: where a number is not finite or not positive, nothing is known (NaN), for a
    run that failed is not to be left out. One pair has no interval.

    Args:
        first, second: A number per seed, in the same order.
        confidence: Coverage of the interval.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if not all(np.isfinite(part).all() and (part > 0).all() for part in (a, b)):
        return UNKNOWN
    found = mean_interval(np.log(a / b), confidence=confidence)
    return Estimate(*(math.exp(end) for end in (found.mean, found.low, found.high)))


def geometric_mean(runs: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Return the geometric mean of the runs, position by position."""
    means: NDArray[np.float64] = np.exp(np.log(np.asarray(runs, dtype=float)).mean(0))
    return means


def held_below(found: Estimate, limit: float) -> str:
    """Say whether a value is below a limit, for certain, by the whole interval."""
    return "holds" if found.high < limit else "does not hold" if found.low > limit else "open"


def written(found: Estimate, digits: int = 2, *, significant: bool = False) -> str:
    """Write a value with its interval, `1.25 [1.10, 1.41]`, or alone where there is none.

    Args:
        found: The value.
        digits: How many behind the point, or all of them if `significant`.
        significant: Whether small numbers are to be told apart.
    """
    form = f".{digits}{'g' if significant else 'f'}"
    if math.isnan(found.low):
        return f"{found.mean:{form}}"
    return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"


def as_numbers(name: str, found: Estimate) -> dict[str, float | None]:
    """Return a value and the ends of its interval by name, as a finding keeps them."""
    ends = {name: found.mean, f"{name}, low": found.low, f"{name}, high": found.high}
    return {key: end if math.isfinite(end) else None for key, end in ends.items()}
