"""What seeds on one split can tell: the sign-flip test and the paired bootstrap.

The scores of one norm over seeds, everything else equal, are independent draws, and so are the
paired differences of two norms. Nothing has to be assumed about their distribution but, for the
test, that under the hypothesis it is symmetric around 0: if two norms are alike, exchanging their
names changes nothing. What is learned holds for the split at hand and for no other.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from graphnorms.lab.statistics import CONFIDENCE, Estimate, spread, without_nan

MOST_EXACT = 20
"""Pairs up to which every way to flip the signs is counted; 2¹⁹ sums take a few milliseconds."""

FLIPS = 100_000
RESAMPLES = 40_000
SEED = 20030309


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
    bias = special.ndtri(min(max(below / (2 * means.size), 0.5 / means.size), 1 - 0.5 / means.size))
    centred = known - mean
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    reach = expanded(confidence, known.size)
    z = bias + np.array([-reach, reach])
    low, high = np.quantile(means, special.ndtr(bias + z / (1 - acceleration * z)))
    return Estimate(mean, float(low), float(high))


def expanded(confidence: float, count: int) -> float:
    """Return the normal quantile that a bootstrap interval of so many values is read off at."""
    return math.sqrt(count / (count - 1)) * float(special.stdtrit(count - 1, (1 + confidence) / 2))


def _all_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of all 2ⁿ ways to give signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate((sums + value, sums - value))
    return sums


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
