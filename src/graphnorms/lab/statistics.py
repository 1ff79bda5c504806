"""Statistics over folds: intervals and paired tests, as pure functions on arrays.

The scores of the folds of a cross-validation are not independent, because their training
sets overlap. Under the usual model (normal, every two folds correlated alike by ρ) the sample
variance S² underestimates the variance of the mean, and

    Var(mean) ≈ S² · (1/J + n_test / n_train),     ρ = n_test / (n_test + n_train),

takes the place of S²/J (Nadeau & Bengio 2003; Bouckaert & Frank 2004 find that tests made
with it keep their level and repeat well). No unbiased estimate of that variance exists (Bengio
& Grandvalet 2004), so this is a correction, not an exact cure. Everywhere below `test_ratio`
is n_test / n_train; 0 stands for independent scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval, in the unit of the value.

    `low` and `high` are NaN where the data give no interval (a single fold).
    """

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """How far the interval reaches from the value, on its longer side."""
        return max(self.high - self.mean, self.mean - self.low)

    def within(self, least: float, most: float) -> Estimate:
        """Return the estimate with its interval cut to the possible scores."""
        low, high = (min(max(end, least), most) for end in (self.low, self.high))
        return Estimate(self.mean, low, high)


@dataclass(frozen=True)
class PairedDifference:
    """The mean paired difference, its interval, and the test that it is 0.

    Args:
        estimate: Mean of the differences with its corrected interval.
        deviation: Sample standard deviation of the differences; NaN for fewer than two.
        pairs: Number of differences.
        p_value: Two-sided, not adjusted for other comparisons; NaN for fewer than two pairs.
    """

    estimate: Estimate
    deviation: float
    pairs: int
    p_value: float


def mean_interval(
    values: ArrayLike, *, test_ratio: float = 0.0, confidence: float = CONFIDENCE
) -> Estimate:
    """Estimate a mean from the scores of folds.

    mean ± t(J−1) · S · sqrt(1/J + test_ratio). With `test_ratio` 0 this is Student's interval
    for independent scores, which is too narrow for folds; the lab gives every interval of fold
    scores the correction, for one norm as for a difference of two.

    Special cases: NaN scores are left out. One score gives no interval (NaN); equal scores
    give one of length 0, which says that the folds agree, not that the mean is known exactly.

    Args:
        values: Scores, one per fold.
        test_ratio: n_test / n_train of a fold.
        confidence: Coverage of the interval.

    Raises:
        ValueError: There is no score, or `confidence` is not between 0 and 1.

    Source: Nadeau & Bengio, Machine Learning 52, 2003.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    scores = without_nan(values)
    if scores.size == 0:
        raise ValueError("no score to take the mean of")
    mean = float(scores.mean())
    if scores.size == 1:
        return Estimate(mean, math.nan, math.nan)
    half = standard_error(scores, test_ratio) * student_quantile(
        (1 + confidence) / 2, scores.size - 1
    )
    return Estimate(mean, mean - half, mean + half)


def paired_difference(
    first: ArrayLike, second: ArrayLike, *, test_ratio: float = 0.0, confidence: float = CONFIDENCE
) -> PairedDifference:
    """Estimate and test the mean of `first - second`, paired by position.

    t = mean(d) / (S(d) · sqrt(1/J + test_ratio)) against Student's t with J−1 degrees of
    freedom, two-sided: the corrected resampled t-test.

    Special cases: a pair with a NaN on either side (a trial that failed or is missing) is left
    out. When all differences are equal, t is undefined: p is 1 if they are 0, else 2^(1−J), the
    smallest p of the sign test, because J agreeing signs is all that is then known.

    Args:
        first, second: Scores of two norms on the same folds, in the same order.
        test_ratio: n_test / n_train of a fold.
        confidence: Coverage of the interval.

    Raises:
        ValueError: The lengths differ, or no pair is complete.

    Source: Nadeau & Bengio, Machine Learning 52, 2003; Bouckaert & Frank, PAKDD 2004.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"paired scores need equal lengths, not {a.shape} and {b.shape}")
    differences = without_nan(a - b)
    if differences.size == 0:
        raise ValueError("no fold has a score on both sides")
    estimate = mean_interval(differences, test_ratio=test_ratio, confidence=confidence)
    pairs = differences.size
    if pairs == 1:
        return PairedDifference(estimate, math.nan, 1, math.nan)
    deviation = spread(differences)
    if deviation == 0:
        p_value = 1.0 if abs(estimate.mean) <= 1e-12 else 2.0 ** (1 - pairs)
        return PairedDifference(estimate, 0.0, pairs, p_value)
    statistic = estimate.mean / standard_error(differences, test_ratio)
    p_value = 2 * student_above(abs(statistic), pairs - 1)
    return PairedDifference(estimate, deviation, pairs, p_value)


def student_above(statistic: float, freedom: int) -> float:
    """Return P(T > `statistic`), T of Student's t distribution."""
    return float(scipy.special.stdtr(freedom, -statistic))


def student_quantile(chance: float, freedom: int) -> float:
    """Return the value that T of Student's t distribution stays below with a chance."""
    return float(scipy.special.stdtrit(freedom, chance))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that calling those ≤ α significant errs anywhere at most with chance α.

    For p₍₁₎ ≤ … ≤ p₍ₘ₎: adjusted p₍ᵢ₎ = min(1, max over k ≤ i of (m − k + 1) · p₍ₖ₎). It holds
    however the tests depend on one another. NaN (a comparison that could not be made) stays NaN
    and does not count in m.

    Source: Holm, Scandinavian Journal of Statistics 6, 1979.
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    known.sort(key=lambda index: p_values[index])
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def without_nan(values: ArrayLike) -> NDArray[np.float64]:
    """Return the values that are known, flat."""
    array: NDArray[np.float64] = np.asarray(values, dtype=float).ravel()
    known: NDArray[np.float64] = array[~np.isnan(array)]
    return known


def spread(differences: NDArray[np.float64]) -> float:
    """Return the sample standard deviation, and exactly 0 where only rounding is left of it.

    Fold accuracies are fractions of small integers: their differences are equal up to rounding.
    """
    if differences.size < 2:
        return math.nan
    deviation = float(differences.std(ddof=1))
    return 0.0 if deviation <= 1e-12 * max(1.0, abs(float(differences.mean()))) else deviation


def standard_error(scores: NDArray[np.float64], test_ratio: float) -> float:
    """Return S · sqrt(1/J + test_ratio), see the module."""
    return float(scores.std(ddof=1)) * math.sqrt(1 / scores.size + test_ratio)
