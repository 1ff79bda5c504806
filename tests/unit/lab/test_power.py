"""What can be seen, against simulations with a known truth, statsmodels, and by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from graphnorms.lab.power import (
    detectable_difference,
    expected_deviation,
    least_cross_validation,
    minimum_flips,
    minimum_folds,
    pairs_needed,
)
from graphnorms.lab.resampling import sign_flip


@pytest.mark.parametrize("pairs", [2, 5, 10, 30])
@pytest.mark.parametrize("comparisons", [1, 10])
def test_detectable_difference_has_the_power_it_says(pairs: int, comparisons: int) -> None:
    """Simulated in the model itself: folds of equal correlation, a true difference δ."""
    ratio, deviation, rounds = 1 / (pairs - 1), 0.05, 20_000
    delta = detectable_difference(deviation, pairs, test_ratio=ratio, comparisons=comparisons)
    rng = np.random.default_rng(pairs)
    # Fold variance σ² and correlation ρ with ρ / (1 − ρ) = ratio, σ²(1 − ρ) = deviation².
    shared = deviation * math.sqrt(ratio) * rng.standard_normal((rounds, 1))
    scores = delta + shared + deviation * rng.standard_normal((rounds, pairs))
    error = scores.std(axis=1, ddof=1) * math.sqrt(1 / pairs + ratio)
    critical = stats.t.ppf(1 - 0.05 / comparisons / 2, pairs - 1)
    detected = np.mean(np.abs(scores.mean(axis=1)) > critical * error)
    assert detected == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / rounds))


def test_detectable_difference_scales_as_it_should() -> None:
    ten = detectable_difference(0.05, 10, test_ratio=1 / 9)
    assert detectable_difference(0.1, 10, test_ratio=1 / 9) == pytest.approx(2 * ten)
    assert detectable_difference(0.05, 10, test_ratio=1 / 9, comparisons=10) > ten
    # Many folds without overlap: the textbook's (1.960 + 0.842) · sd / sqrt(J).
    many = detectable_difference(1.0, 10_000)
    assert many == pytest.approx((1.95996 + 0.84162) / 100, rel=1e-3)


def test_detectable_difference_in_degenerate_cases() -> None:
    assert math.isnan(detectable_difference(0.1, 1))
    assert math.isnan(detectable_difference(math.nan, 10))
    assert detectable_difference(0.0, 10) == 0
    with pytest.raises(ValueError, match="negative"):
        detectable_difference(-0.1, 10)
    with pytest.raises(ValueError, match="power"):
        detectable_difference(0.1, 10, power=0.01)


def test_expected_deviation_is_that_of_counted_disagreements() -> None:
    rng = np.random.default_rng(0)
    wrong_only_one = 2 * 0.15 * 0.5  # share of graphs on which exactly one of two errs
    outcomes = rng.choice(
        [1, -1, 0], p=[wrong_only_one / 2] * 2 + [1 - wrong_only_one], size=(20_000, 19)
    )
    assert expected_deviation(19) == pytest.approx(outcomes.mean(axis=1).std(), rel=0.02)
    assert expected_deviation(19, shared_errors=0.15) > expected_deviation(19)
    with pytest.raises(ValueError, match="fractions"):
        expected_deviation(19, accuracy=85)
    with pytest.raises(ValueError, match="one graph"):
        expected_deviation(0)


@pytest.mark.parametrize(("pairs", "comparisons"), [(5, 1), (10, 1), (40, 1), (10, 10), (40, 10)])
def test_power_without_overlap_is_that_of_statsmodels(pairs: int, comparisons: int) -> None:
    from statsmodels.stats.power import TTestPower

    delta = detectable_difference(0.05, pairs, comparisons=comparisons)
    power = TTestPower().power(delta / 0.05, pairs, 0.05 / comparisons, alternative="two-sided")
    assert power == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("difference", "ratio"), [(0.05, 0.0), (0.02, 0.0), (0.08, 1 / 9)])
def test_the_pairs_needed_suffice_and_one_less_does_not(difference: float, ratio: float) -> None:
    needed = pairs_needed(-difference, 0.05, test_ratio=ratio, comparisons=10)
    assert needed is not None
    common = {"test_ratio": ratio, "comparisons": 10}
    assert detectable_difference(0.05, needed, **common) <= difference
    assert detectable_difference(0.05, needed - 1, **common) > difference


def test_no_number_of_folds_shows_what_overlap_hides() -> None:
    # Below deviation · sqrt(ratio) · (1.960 + 0.842) more folds do not help.
    limit = 0.05 * math.sqrt(1 / 9) * (stats.norm.ppf(0.975) + stats.norm.ppf(0.8))
    assert pairs_needed(0.95 * limit, 0.05, test_ratio=1 / 9) is None
    assert pairs_needed(1.05 * limit, 0.05, test_ratio=1 / 9) is not None
    assert pairs_needed(0.0, 0.05) is None
    assert pairs_needed(0.1, 0.05, at_least=20) == 20


@pytest.mark.parametrize("comparisons", [1, 3, 10, 15, 300])
def test_the_least_flips_are_those_that_can_be_significant(comparisons: int) -> None:
    least = minimum_flips(comparisons)
    assert sign_flip(np.ones(least)) * comparisons <= 0.05
    assert sign_flip(np.ones(least - 1)) * comparisons > 0.05


@pytest.mark.parametrize("comparisons", [1, 10, 45])
def test_the_least_folds_are_those_that_find_three_deviations(comparisons: int) -> None:
    ratio = 1 / 9
    least = minimum_folds(ratio, comparisons)
    common = {"test_ratio": ratio, "comparisons": comparisons}
    assert detectable_difference(1.0, least, **common) <= 3
    assert detectable_difference(1.0, least - 1, **common) > 3


@pytest.mark.parametrize(("norms", "trained"), [(2, 0.9), (5, 0.9), (5, 1.0), (10, 0.9)])
def test_the_least_cross_validation_judges_itself_and_one_fold_less_does_not(
    norms: int, trained: float
) -> None:
    comparisons = math.comb(norms, 2)
    least = least_cross_validation(comparisons, trained)
    assert minimum_folds(1 / (trained * (least - 1)), comparisons) <= least
    assert minimum_folds(1 / (trained * (least - 2)), comparisons) > least - 1
    assert 3 <= least <= 10


def test_ten_folds_judge_ten_norms() -> None:
    assert minimum_folds(1 / 9, math.comb(10, 2)) <= 10
    assert minimum_folds(1 / 9, 1) < minimum_folds(1 / 9, 45)


def test_the_noncentrality_is_scipys_where_scipy_has_it() -> None:
    """The quadrature against SciPy's noncentral t, at one point where that works."""
    critical = stats.t.ppf(0.975, 9)

    def power(shift: float) -> float:
        return float(stats.nct.sf(critical, 9, shift) + stats.nct.cdf(-critical, 9, shift))

    shift = optimize.brentq(lambda value: power(value) - 0.8, 1, 6)
    assert detectable_difference(1.0, 10) == pytest.approx(shift / math.sqrt(10), rel=1e-4)
