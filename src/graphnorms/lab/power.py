"""Power: the smallest difference that a paired test detects, and the pairs that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy

from graphnorms.lab.statistics import SIGNIFICANCE, student_quantile

if TYPE_CHECKING:
    from numpy.typing import NDArray

POWER = 0.8

PLAIN_EFFECT = 3.0
"""A difference, in standard deviations over pairs, that a plot shows at once. A design that misses
it more often than one time in five is too small to judge."""

MOST_PAIRS = 10_000
"""More than anyone trains; a larger number is reported as "no number"."""


def detectable_difference(
    deviation: float,
    pairs: int,
    *,
    test_ratio: float = 0.0,
    comparisons: int = 1,
    power: float = POWER,
    significance: float = SIGNIFICANCE,
) -> float:
    """Find the smallest true difference that the paired test detects with the given power.

    The δ at which P(|T| > t*) = power, T noncentral t with J−1 degrees of freedom and
    noncentrality δ / (deviation · sqrt(1/J + test_ratio)), t* the two-sided critical value at
    `significance / comparisons`. That is exact in the model of this module. Holm's first step
    tests at that level, so with `comparisons` over 1 the result errs to the large side.

    Usable before a run, with the deviation that `expected_deviation` gives, and after it, with
    the one seen. NaN for fewer than two pairs. For the sign-flip test of one pair it is an
    approximation, whose error is below a tenth from about 10 pairs on; for joint flips of several
    it errs to the large side, the more so the fewer pairs there are.

    Args:
        deviation: Standard deviation of the paired differences.
        pairs: Number of pairs J.
        test_ratio: n_test / n_train of a fold.
        comparisons: Number of comparisons that share `significance`.
        power: Chance of detection, above `significance`.
        significance: Chance of a false alarm over all comparisons.

    Raises:
        ValueError: `deviation` is negative, or `power` is not above `significance`.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd ed. 1988, ch. 2,
    with the standard error of Nadeau & Bengio 2003.
    """
    if deviation < 0:
        raise ValueError(f"deviation must not be negative, not {deviation}")
    if not 0 < significance < power < 1:
        raise ValueError(f"need 0 < significance < power < 1, not {significance} and {power}")
    if pairs < 2 or math.isnan(deviation):
        return math.nan
    shift = _noncentrality(pairs, significance / comparisons, power)
    return shift * deviation * math.sqrt(1 / pairs + test_ratio)


def pairs_needed(
    difference: float,
    deviation: float,
    *,
    test_ratio: float = 0.0,
    comparisons: int = 1,
    at_least: int = 2,
) -> int | None:
    """Find the number of pairs at which `difference` is detected with 80% power.

    More folds, from further cross-validations of the same data with other splits, leave
    `test_ratio` as it is: the standard error does not fall below deviation · sqrt(test_ratio),
    and a difference that is small beside it is never seen. None says that.

    Args:
        difference: A true difference; its sign does not matter.
        deviation: Standard deviation of the paired differences.
        test_ratio: n_test / n_train of a fold; 0 for independent pairs.
        comparisons: Number of comparisons that share the level.
        at_least: Where to start, see `minimum_folds` and `minimum_flips`.
    """
    wanted = abs(difference)

    def seen(pairs: int) -> bool:
        return wanted > 0 and wanted >= detectable_difference(
            deviation, pairs, test_ratio=test_ratio, comparisons=comparisons
        )

    return _least(seen, at_least)


def pairs_to_equal(
    difference: float,
    deviation: float,
    margin: float,
    *,
    test_ratio: float = 0.0,
    comparisons: int = 1,
    at_least: int = 2,
) -> int | None:
    """Find the number of pairs at which `difference` is shown to lie within ± `margin`.

    With 80% power, by two one-sided corrected t-tests (TOST); None if at no number, which is so
    where the difference is not within the margin, and where more folds of the same data cannot
    show it, see `pairs_needed`.

    Args:
        difference: A true difference.
        deviation: Standard deviation of the paired differences.
        margin: Half the width of the region of practical equivalence, above 0.
        test_ratio: n_test / n_train of a fold; 0 for independent pairs.
        comparisons: Number of comparisons that share the level.
        at_least: Where to start, see `minimum_folds` and `minimum_flips`.
    """
    if not abs(difference) < margin:
        return None

    def shown(pairs: int) -> bool:
        error = deviation * math.sqrt(1 / pairs + test_ratio)
        return equivalence_power(difference, error, margin, pairs - 1, comparisons) >= POWER

    return _least(shown, at_least)


def equivalence_power(
    difference: float, error: float, margin: float, freedom: int, comparisons: int = 1
) -> float:
    """Return the chance that two one-sided t-tests put a difference within ± `margin`.

    Both reject if |mean| < margin − t* · s, t* the one-sided critical value at 5% / `comparisons`
    and s the estimated standard error: the expectation over s of a normal probability.

    Args:
        difference: The true one.
        error: The true standard error of its estimate.
        margin: Half the width of the region of practical equivalence, above 0.
        freedom: Degrees of freedom of s.
        comparisons: Number of comparisons that share the level.

    Source: Phillips, Journal of Pharmacokinetics and Biopharmaceutics 18, 1990.
    """
    if error <= 0:
        return float(abs(difference) < margin)
    critical = student_quantile(1 - SIGNIFICANCE / comparisons, freedom)
    scale, weights = _scales(freedom)
    upper = scipy.special.ndtr((margin - difference) / error - critical * scale)
    lower = scipy.special.ndtr(critical * scale - (margin + difference) / error)
    return float(weights @ np.maximum(0.0, upper - lower))


def minimum_folds(test_ratio: float, comparisons: int) -> int:
    """Return the least number of folds that are judged: those that find `PLAIN_EFFECT`.

    Args:
        test_ratio: n_test / n_train of a fold.
        comparisons: Number of comparisons that share the level.
    """
    needed = pairs_needed(PLAIN_EFFECT, 1.0, test_ratio=test_ratio, comparisons=comparisons)
    return MOST_PAIRS if needed is None else needed


def least_cross_validation(comparisons: int, trained: float = 1.0) -> int:
    """Return the least number of folds to cut data into, for all of them to be judged.

    Fewer folds have larger test parts beside their training parts, which takes more pairs: so the
    answer is another than that of `minimum_folds`, about the folds of a cross-validation at hand.

    Args:
        comparisons: Number of comparisons that share the level.
        trained: Share of what is not a test fold that is trained on.
    """
    folds = 2
    while minimum_folds(1 / (trained * (folds - 1)), comparisons) > folds:
        folds += 1
    return folds


def minimum_flips(comparisons: int, significance: float = SIGNIFICANCE) -> int:
    """Return the least number of pairs with which the sign-flip test can say anything.

    n pairs have 2ⁿ ways to flip, so that no two-sided p-value is below 2 / 2ⁿ. Holm's first
    step asks for significance / comparisons.

    Args:
        comparisons: Number of comparisons that share the level.
        significance: Chance of a false alarm over all comparisons.
    """
    return math.ceil(math.log2(2 * comparisons / significance))


def expected_deviation(
    test_graphs: float, *, accuracy: float = 0.85, shared_errors: float = 0.5
) -> float:
    """Guess, before a run, how much the paired differences of accuracy vary over folds.

    Two norms of equal accuracy differ on a graph with chance D = 2 · (1 − accuracy) · (1 −
    shared_errors), and then by +1 or −1 alike; over a fold of n graphs the mean difference has
    standard deviation sqrt(D / n) (the variance in McNemar's test).

    The assumption about the pairing is `shared_errors`, the part of one norm's errors that are
    the other's too: models with the same split, initial weights and batch order fail mostly on
    the same graphs, and one half is on the careful side. What training adds by chance is not in
    the formula. On MUTAG's ten folds the two made up for each other: 8.9 points guessed, 8.7 seen
    by `graphnorms compare` (version 0.1, five norms).

    Args:
        test_graphs: Graphs in the held-out part of a fold.
        accuracy: Accuracy of both norms, a fraction.
        shared_errors: Part of the errors that both make, a fraction.

    Raises:
        ValueError: A fraction lies outside [0, 1], or `test_graphs` is not positive.

    Source: McNemar, Psychometrika 12, 1947; Dietterich, Neural Computation 10, 1998.
    """
    if not (0 <= accuracy <= 1 and 0 <= shared_errors <= 1):
        raise ValueError(f"fractions must lie in [0, 1], not {accuracy} and {shared_errors}")
    if test_graphs <= 0:
        raise ValueError(f"a fold needs at least one graph, not {test_graphs}")
    return math.sqrt(2 * (1 - accuracy) * (1 - shared_errors) / test_graphs)


def shift_quantile(statistic: float, freedom: int, chance: float) -> float:
    """Find the noncentrality at which T ≤ `statistic` has the chance, T noncentral t.

    Two of them are the ends of a confidence interval for the noncentrality.
    """
    scale, weights = _scales(freedom)
    reach = 10 + 4 * abs(statistic)
    solution: float = scipy.optimize.brentq(
        lambda shift: float(weights @ scipy.special.ndtr(statistic * scale - shift)) - chance,
        -reach,
        reach,
        xtol=1e-9,
    )
    return solution


def _least(enough: Callable[[int], bool], at_least: int) -> int | None:
    """Find the least number of pairs that is enough, at most `MOST_PAIRS`; None: there is none."""
    low, high = at_least, at_least
    while not enough(high):
        if high >= MOST_PAIRS:
            return None
        low, high = high + 1, min(2 * high, MOST_PAIRS)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


@lru_cache(maxsize=4096)
def _noncentrality(pairs: int, level: float, power: float) -> float:
    """Solve for the noncentrality at which the two-sided t-test at `level` has the power."""
    critical = student_quantile(1 - level / 2, pairs - 1)
    power_at = _two_sided_power(critical, pairs - 1)
    solution: float = scipy.optimize.brentq(
        lambda shift: power_at(shift) - power,
        0.0,  # where the power is the significance, below `power`
        4 * critical + 10,
        xtol=1e-6,
    )
    return solution


def _two_sided_power(critical: float, freedom: int) -> Callable[[float], float]:
    """Return P(|T| > critical) as a function of the noncentrality of T.

    T = (Z + noncentrality) / sqrt(chi² / freedom). The expectation over the chi of a normal
    probability: `scipy.stats.nct` gives NaN at scattered arguments (seen in SciPy 1.17).
    """
    scale, weights = _scales(freedom)

    def power(noncentrality: float) -> float:
        above = scipy.special.ndtr(noncentrality - critical * scale)
        below = scipy.special.ndtr(-noncentrality - critical * scale)
        return float(weights @ (above + below))

    return power


@lru_cache(maxsize=256)
def _scales(freedom: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values of sqrt(chi² / freedom), `(128,)`, and their weights, which sum to 1.

    Gauss quadrature on the quantiles.
    """
    nodes, weights = np.polynomial.legendre.leggauss(128)
    return np.sqrt(scipy.special.chdtri(freedom, (1 - nodes) / 2) / freedom), weights / 2
