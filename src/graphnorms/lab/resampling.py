"""Statistics over seeds on one split: sign-flip tests and the bootstrap.

The scores of one norm over seeds, everything else equal, are independent draws, and so are the
paired differences of two norms. Nothing has to be assumed about their distribution but, for the
test, that under the hypothesis it is symmetric around 0: if two norms are alike, exchanging their
names changes nothing. What is learned holds for the split at hand and for no other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy

from graphnorms.lab.statistics import CONFIDENCE, Estimate, spread, student_quantile, without_nan

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

MOST_EXACT = 20
"""Pairs up to which every way to flip the signs is counted; 2¹⁹ sums take a few milliseconds."""

FLIPS = 100_000
RESAMPLES = 40_000
SEED = 20030309
_PARTS = 10
"""Parts in which flips of many pairs are gone through, to bound the memory."""


def sign_flip(differences: ArrayLike, *, side: str = "both") -> float:
    """Test that paired differences are symmetric around 0, by flipping their signs.

    p = the share of the 2ⁿ ways to give signs to |d₁|, …, |dₙ| whose mean is at least as far
    from 0 as the one seen. Exact for up to `MOST_EXACT` pairs; beyond, (1 + hits) / (1 + draws)
    over `FLIPS` draws with a fixed seed, which is valid as a p-value too.

    Special cases: NaN is left out; no pair at all gives NaN. No p-value is below 2 / 2ⁿ
    (one-sided 1 / 2ⁿ).

    Args:
        differences: One per pair.
        side: `"both"`, or `"greater"` for the alternative that the mean is above 0.

    Source: Fisher, The Design of Experiments, 1935, §21; Phipson & Smyth, Statistical
    Applications in Genetics and Molecular Biology 9, 2010, for the draws.
    """
    values = without_nan(differences)
    if values.size == 0:
        return math.nan
    seen = float(values.sum())
    # Sums of the same numbers in another order differ by rounding.
    slack = 1e-10 * float(np.abs(values).sum())
    exact = values.size <= MOST_EXACT
    sums = _all_sums(values) if exact else _drawn_sums(values)
    if side == "both":
        hits = np.count_nonzero(np.abs(sums) >= abs(seen) - slack)
    else:
        hits = np.count_nonzero(sums >= seen - slack)
    return float(hits / sums.size if exact else (hits + 1) / (sums.size + 1))


def joint_sign_flips(differences: NDArray[np.float64], *, side: str = "both") -> list[float]:
    """Test several paired differences at once: their p-values, adjusted for all of them.

    The signs of a seed are flipped for all pairs of norms together, so that what the pairs share
    (a norm, a hard seed) is in the reference distribution, where Holm's procedure would have to
    fear the worst. With Tⱼ = |Σᵢ dⱼᵢ| / sqrt(Σᵢ dⱼᵢ²), which orders flips as |t| does, and
    T₍₁₎ ≥ … ≥ T₍ₘ₎ as seen, the adjusted p₍ⱼ₎ is the share of flips in which the largest T of
    pairs j, …, m reaches T₍ⱼ₎, made monotone in j (step-down max-t). No p-value is below 2 / 2ⁿ,
    however many pairs there are. Exact and drawn flips as in `sign_flip`; one-sided is T without
    the |…|, and the least p-value 1 / 2ⁿ.

    The chance of any false alarm is held where the differences of equal norms are jointly
    symmetric around 0; docs/statistics.md has it simulated, with a skewed norm as well.

    Args:
        differences: One row per pair of norms, one column per seed; NaN where a norm lacks one.
        side: `"both"`, or `"greater"` for the alternatives that means are above 0.

    Shapes: `(pairs, seeds)`.

    Source: Westfall & Young, Resampling-Based Multiple Testing, 1993, algorithms 2.8 and 4.1.
    """
    d = np.nan_to_num(differences, nan=0.0)
    size = np.sqrt((d**2).sum(axis=1, keepdims=True))
    d = np.divide(d, size, out=np.zeros_like(d), where=size > 0)  # (pairs, seeds)
    size_of = np.abs if side == "both" else np.asarray
    order = np.argsort(-size_of(d.sum(axis=1)), kind="stable")
    d = d[order]
    seen = size_of(d.sum(axis=1)) - 1e-10  # sums in another order differ by rounding
    seeds = d.shape[1]
    exact = seeds <= MOST_EXACT
    hits, drawn = np.zeros(len(d)), 0
    for signs in _all_signs(seeds) if exact else np.array_split(_signs(seeds), _PARTS):
        sums = signs @ d.T  # (flips, pairs)
        if exact and side != "both":
            sums = np.concatenate((sums, -sums))
        statistic = size_of(sums)[:, ::-1]  # the smallest seen first
        largest = np.maximum.accumulate(statistic, axis=1)[:, ::-1]
        hits += (largest >= seen).sum(axis=0)
        drawn += len(sums)
    p_values = np.maximum.accumulate(hits / drawn if exact else (hits + 1) / (drawn + 1))
    adjusted = np.empty(len(d))
    adjusted[order] = p_values
    return [float(p) for p in adjusted]


def bootstrap_interval(values: ArrayLike, *, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a mean and its interval by the bootstrap: BCa, expanded for few values.

    Over `RESAMPLES` means of n draws with replacement, the quantiles at

        Φ(z₀ + (z₀ ± z) / (1 − a (z₀ ± z))),   z = sqrt(n / (n − 1)) · t(n−1),

    z₀ = Φ⁻¹(share of means below the one seen, ties by half),
    a = Σ(x − x̄)³ / (6 (Σ(x − x̄)²)^{3/2}). Efron's BCa has the normal quantile in place of z, and is
    then too short for few values: a resample varies by Σ(x − x̄)²/n, and what it varies by is
    itself estimated. docs/statistics.md has the coverage of both. The draws have a fixed seed:
    equal values give equal intervals. The test that decides is `sign_flip`.

    Special cases: NaN is left out. One value gives no interval (NaN), equal values one of
    length 0.

    Args:
        values: Independent values.
        confidence: Coverage of the interval.

    Raises:
        ValueError: There is no value, or `confidence` is not between 0 and 1.

    Source: Efron, Journal of the American Statistical Association 82, 1987; Efron & Tibshirani,
    An Introduction to the Bootstrap, 1993, ch. 14; Hesterberg, The American Statistician 69,
    2015, for the expansion.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    known = without_nan(values)
    if known.size == 0:
        raise ValueError("no score to take the mean of")
    mean = float(known.mean())
    if known.size == 1:
        return Estimate(mean, math.nan, math.nan)
    if spread(known) == 0:
        return Estimate(mean, mean, mean)
    means = np.sort(_weights(known.size) @ known)  # (RESAMPLES,)
    slack = 1e-12 * float(np.abs(known).max())
    below = np.searchsorted(means, mean - slack) + np.searchsorted(means, mean + slack)
    bias = scipy.special.ndtri(
        min(max(below / (2 * means.size), 0.5 / means.size), 1 - 0.5 / means.size)
    )
    centred = known - mean
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    reach = expanded(confidence, known.size)
    z = bias + np.array([-reach, reach])
    low, high = np.quantile(means, scipy.special.ndtr(bias + z / (1 - acceleration * z)))
    return Estimate(mean, float(low), float(high))


def expanded(confidence: float, count: int) -> float:
    """Return the normal quantile that a bootstrap interval of so many values is read off at."""
    return math.sqrt(count / (count - 1)) * student_quantile((1 + confidence) / 2, count - 1)


def _all_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of all 2ⁿ ways to give signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate((sums + value, sums - value))
    return sums


def _all_signs(count: int) -> Iterator[NDArray[np.float64]]:
    """Yield half of the 2ⁿ ways to give signs, the others being their negatives, in parts."""
    ways = 1 << (count - 1)
    for start in range(0, ways, FLIPS // _PARTS):
        way = np.arange(start, min(ways, start + FLIPS // _PARTS))[:, None]
        yield 1.0 - 2.0 * (way >> np.arange(count) & 1).astype(np.float64)


def _drawn_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of `FLIPS` of them, drawn at random."""
    sums: NDArray[np.float64] = _signs(values.size) @ values
    return sums


@lru_cache(maxsize=2)
def _signs(count: int) -> NDArray[np.float64]:
    """Return signs, the same for every test of so many pairs: `(FLIPS, count)`."""
    draw = np.random.default_rng([SEED, count])
    drawn: NDArray[np.float64] = draw.integers(0, 2, (FLIPS, count)).astype(np.float64)
    return 2 * drawn - 1


@lru_cache(maxsize=4)
def _weights(count: int) -> NDArray[np.float64]:
    """Return, per resample, the share of each of `count` values: `(RESAMPLES, count)`."""
    draw = np.random.default_rng([SEED, count])
    picked: NDArray[np.float64] = draw.multinomial(
        count, np.full(count, 1 / count), size=RESAMPLES
    ).astype(np.float64)
    return picked / count
