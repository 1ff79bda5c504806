"""The statistics against closed forms, SciPy, and simulations with a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from graphnorms.lab.statistics import (
    detectable_difference,
    expected_deviation,
    holm,
    mean_interval,
    paired_difference,
)

SCORES = np.array([0.81, 0.84, 0.79, 0.9, 0.86, 0.83, 0.88, 0.8, 0.85, 0.87])
OTHERS = np.array([0.78, 0.85, 0.74, 0.86, 0.86, 0.8, 0.85, 0.81, 0.8, 0.84])


def test_without_overlap_the_interval_is_students() -> None:
    estimate = mean_interval(SCORES)
    low, high = stats.t.interval(0.95, 9, SCORES.mean(), stats.sem(SCORES))
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


def test_overlap_widens_the_interval_by_nadeau_and_bengio() -> None:
    plain, corrected = mean_interval(SCORES), mean_interval(SCORES, test_ratio=1 / 9)
    assert corrected.mean == plain.mean
    assert corrected.half_width / plain.half_width == pytest.approx(math.sqrt((0.1 + 1 / 9) / 0.1))


def test_without_overlap_the_paired_test_is_scipys() -> None:
    oracle = stats.ttest_rel(SCORES, OTHERS)
    outcome = paired_difference(SCORES, OTHERS)
    interval = oracle.confidence_interval(0.95)
    assert outcome.p_value == pytest.approx(oracle.pvalue)
    assert (outcome.estimate.low, outcome.estimate.high) == pytest.approx(tuple(interval))


def test_the_corrected_test_by_hand() -> None:
    # d = 1, 2, 3, 4: mean 2.5, variance 5/3; with n_test / n_train = 1/3 the squared standard
    # error is 5/3 · (1/4 + 1/3) = 35/36.
    outcome = paired_difference([1.0, 2, 3, 4], [0.0, 0, 0, 0], test_ratio=1 / 3)
    statistic = 2.5 / math.sqrt(35 / 36)
    assert outcome.p_value == pytest.approx(2 * stats.t.sf(statistic, 3))
    assert outcome.deviation == pytest.approx(math.sqrt(5 / 3))
    assert outcome.estimate.half_width == pytest.approx(stats.t.ppf(0.975, 3) * math.sqrt(35 / 36))


def test_interval_and_p_value_say_the_same() -> None:
    shifted = paired_difference(SCORES, OTHERS, test_ratio=1 / 9)
    at_the_edge = OTHERS + shifted.estimate.low
    assert paired_difference(SCORES, at_the_edge, test_ratio=1 / 9).p_value == pytest.approx(0.05)


def test_exchanging_the_sides_changes_the_sign_only() -> None:
    forth = paired_difference(SCORES, OTHERS, test_ratio=0.1)
    back = paired_difference(OTHERS, SCORES, test_ratio=0.1)
    assert back.p_value == pytest.approx(forth.p_value)
    assert back.estimate.low == pytest.approx(-forth.estimate.high)


def test_failed_trials_are_left_out_in_pairs() -> None:
    holes, more = SCORES.copy(), OTHERS.copy()
    holes[0], more[[0, 4]] = math.nan, math.nan
    kept = [1, 2, 3, 5, 6, 7, 8, 9]
    expected = paired_difference(SCORES[kept], OTHERS[kept])
    assert paired_difference(holes, more) == expected
    assert expected.pairs == 8


def test_one_fold_has_a_mean_and_nothing_else() -> None:
    outcome = paired_difference([0.9], [0.8])
    assert outcome.estimate.mean == pytest.approx(0.1)
    assert all(
        math.isnan(value) for value in (outcome.estimate.low, outcome.deviation, outcome.p_value)
    )


def test_two_folds_work() -> None:
    assert 0 < paired_difference([0.9, 0.8], [0.7, 0.75]).p_value < 1


@pytest.mark.parametrize(("shift", "p_value"), [(0.0, 1.0), (0.05, 2.0**-9)])
def test_equal_differences_fall_back_on_signs(shift: float, p_value: float) -> None:
    outcome = paired_difference(SCORES + shift, SCORES, test_ratio=1 / 9)
    assert outcome.deviation == 0
    assert outcome.p_value == p_value
    assert outcome.estimate.half_width == pytest.approx(0, abs=1e-12)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="equal lengths"):
        paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="on both sides"):
        paired_difference([math.nan, 1.0], [1.0, math.nan])
    with pytest.raises(ValueError, match="no score"):
        mean_interval([math.nan])
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([1.0, 2.0], confidence=95)


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1 is .04, .06, .06, .04; made to ascend.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_leaves_out_what_could_not_be_compared() -> None:
    adjusted = holm([0.01, math.nan, 0.02])
    assert math.isnan(adjusted[1])
    assert [adjusted[0], adjusted[2]] == pytest.approx([0.02, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, value in zip(p_values, adjusted, strict=True):
        assert raw <= value <= min(1.0, raw * len(p_values))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


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


def test_five_folds_are_the_least_that_find_three_deviations() -> None:
    """The reason that `pairs.MINIMUM_FOLDS` gives for itself."""
    assert detectable_difference(1.0, 4, test_ratio=1 / 3) > 3
    assert detectable_difference(1.0, 5, test_ratio=1 / 4) < 3


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


def test_no_more_false_alarms_than_promised_on_overlapping_training_sets() -> None:
    """Cross-validate two learners of equal expected accuracy 1000 times on fresh data.

    Both are nearest-centroid classifiers, on two halves of the features that are exchangeable:
    the null hypothesis is true. Overlap is real: ten folds of one sample. The ordinary
    t-test raises more false alarms than it promises on the same scores.
    """
    rng = np.random.default_rng(0)
    rounds, graphs, folds = 1000, 100, 10
    labels = np.arange(graphs) % 2
    corrected = ordinary = 0
    for _ in range(rounds):
        features = rng.standard_normal((graphs, 8)) + 0.5 * labels[:, None]
        order = rng.permutation(graphs)
        scores = [
            [
                _centroid_accuracy(features[:, half], labels, order[fold::folds])
                for fold in range(folds)
            ]
            for half in (slice(0, 4), slice(4, 8))
        ]
        corrected += paired_difference(*scores, test_ratio=1 / 9).p_value <= 0.05
        ordinary += paired_difference(*scores).p_value <= 0.05
    assert corrected / rounds <= 0.064
    assert ordinary > corrected


def _centroid_accuracy(features: np.ndarray, labels: np.ndarray, tested: np.ndarray) -> float:
    trained = np.ones(len(labels), dtype=bool)
    trained[tested] = False
    centers = np.stack([features[trained & (labels == label)].mean(axis=0) for label in (0, 1)])
    distances = ((features[tested, None] - centers) ** 2).sum(axis=2)  # (tested, 2)
    return float((distances.argmin(axis=1) == labels[tested]).mean())
