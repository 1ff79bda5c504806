"""Intervals and paired tests against closed forms, SciPy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from graphnorms.lab.statistics import holm, mean_interval, paired_difference

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


@pytest.mark.parametrize("count", [1, 2, 10, 45])
def test_holm_is_that_of_statsmodels(count: int) -> None:
    p_values = list(np.random.default_rng(count).beta(0.3, 2, count))
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


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
