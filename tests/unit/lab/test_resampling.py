"""The sign-flip test and the bootstrap against SciPy and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from graphnorms.lab.resampling import (
    MOST_EXACT,
    bootstrap_interval,
    expanded,
    joint_sign_flips,
    sign_flip,
)

DIFFERENCES = np.array([0.031, 0.012, -0.007, 0.044, 0.02, 0.015, -0.002, 0.027])


@pytest.mark.parametrize("side", ["both", "greater"])
@pytest.mark.parametrize("shift", [-0.03, -0.01, 0.0, 0.005])
def test_sign_flips_are_scipys(side: str, shift: float) -> None:
    values = DIFFERENCES + shift
    oracle = stats.permutation_test(
        (values,),
        np.sum,
        permutation_type="samples",
        n_resamples=np.inf,
        alternative="two-sided" if side == "both" else side,
    )
    assert sign_flip(values, side=side) == pytest.approx(oracle.pvalue)


def test_sign_flips_by_hand() -> None:
    # Of the 8 ways to give signs to 1, 2, 3 the sums 6 and −6 are as far off as 1 + 2 + 3.
    assert sign_flip([1, 2, 3]) == 2 / 8
    assert sign_flip([1, 2, 3], side="greater") == 1 / 8
    assert sign_flip([1, 2, -3]) == 1.0
    assert sign_flip([0.0, 0.0]) == 1.0
    assert math.isnan(sign_flip([math.nan]))


def test_ties_and_rounding_count_as_equal() -> None:
    # 0.1 + 0.2 is not 0.3 in floating point; the sums are equal nevertheless.
    assert sign_flip([0.1, 0.2, -0.3]) == sign_flip([1, 2, -3])


def test_drawn_flips_agree_with_the_exact_ones_and_are_never_zero() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 1.0, MOST_EXACT + 5)
    exact = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=200_000, rng=rng
    )
    assert sign_flip(values) == pytest.approx(exact.pvalue, abs=0.004)
    assert sign_flip(values) == sign_flip(values)
    assert 0 < sign_flip(np.ones(60)) < 1e-4


def test_the_sign_flip_test_keeps_its_level_where_t_does_not_promise_to() -> None:
    """Symmetric and far from normal: half of the differences are tiny, half are large."""
    rng = np.random.default_rng(1)
    draws = rng.standard_normal((2000, 10)) * rng.choice([0.01, 1.0], (2000, 10))
    rejected = np.mean([sign_flip(row) <= 0.05 for row in draws])
    assert rejected <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_joint_flips_of_one_pair_are_its_own() -> None:
    for values in (DIFFERENCES, DIFFERENCES - 0.01, np.zeros(5)):
        assert joint_sign_flips(values[None]) == [pytest.approx(sign_flip(values))]


@pytest.mark.parametrize("count", [7, MOST_EXACT + 3])
def test_one_sided_joint_flips_of_one_pair_are_its_own(count: int) -> None:
    values = np.random.default_rng(count).normal(0.4, 1, count)
    for each in (values, -values):
        found = joint_sign_flips(each[None], side="greater")
        assert found == [pytest.approx(sign_flip(each, side="greater"))]


def test_joint_flips_are_the_step_down_of_westfall_and_young_by_enumeration() -> None:
    """Every flip, every t-statistic and every maximum, one by one."""
    scores = np.random.default_rng(4).normal(0, 1, (4, 7)) + np.array([[0], [0.3], [1], [2]])
    d = np.stack([scores[i] - scores[j] for i, j in itertools.combinations(range(4), 2)])

    def t(signs: tuple[int, ...], row: int) -> float:
        values = np.array(signs) * d[row]
        return abs(values.mean()) / (values.std(ddof=1) / math.sqrt(len(values)))

    seen = [t((1,) * 7, row) for row in range(6)]
    order = sorted(range(6), key=lambda row: -seen[row])
    expected, largest = [0.0] * 6, 0.0
    flips = list(itertools.product((1, -1), repeat=7))
    for rank, row in enumerate(order):
        hits = sum(
            max(t(signs, other) for other in order[rank:]) >= seen[row] - 1e-9 for signs in flips
        )
        largest = max(largest, hits / len(flips))
        expected[row] = largest
    assert joint_sign_flips(d) == pytest.approx(expected)
    assert joint_sign_flips(d[::-1]) == pytest.approx(expected[::-1])
    # Adjusted p-values are no less than the pairs' own, and six seeds suffice for any number.
    assert all(p >= sign_flip(row) for p, row in zip(joint_sign_flips(d), d, strict=True))
    assert joint_sign_flips(np.ones((45, 6))) == [2 / 2**6] * 45


def test_joint_flips_where_a_pair_lacks_a_seed() -> None:
    d = np.array([[1.0, 2.0, 3.0, math.nan], [0.0, 0.0, 0.0, 0.0]])
    first, second = joint_sign_flips(d)
    assert (first, second) == (2 / 8, 1.0)


def test_drawn_joint_flips_agree_with_the_exact_ones() -> None:
    d = np.random.default_rng(2).normal(0.6, 1.0, (3, MOST_EXACT + 1))
    drawn = joint_sign_flips(d)
    assert drawn == joint_sign_flips(d)
    from graphnorms.lab import resampling

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "MOST_EXACT", MOST_EXACT + 1)
        assert joint_sign_flips(d) == pytest.approx(drawn, abs=0.003)


@pytest.mark.parametrize("count", [6, 15, 40])
def test_the_bootstrap_interval_is_scipys(count: int) -> None:
    values = np.random.default_rng(count).exponential(1.0, count)
    estimate = bootstrap_interval(values)
    oracle = stats.bootstrap(
        (values,),
        np.mean,
        method="BCa",
        n_resamples=50_000,
        rng=np.random.default_rng(0),
        confidence_level=2 * stats.norm.cdf(expanded(0.95, count)) - 1,
    ).confidence_interval
    width = oracle.high - oracle.low
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(oracle.low, abs=0.04 * width)
    assert estimate.high == pytest.approx(oracle.high, abs=0.04 * width)
    # Skewed to the right: the upper end is further away than that of a symmetric interval.
    assert estimate.high - estimate.mean > estimate.mean - estimate.low


def test_the_expansion_makes_a_percentile_interval_about_as_long_as_students() -> None:
    values = np.random.default_rng(3).standard_normal(12)
    student = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    spread = values.std() / math.sqrt(12)  # of the means of resamples
    assert expanded(0.95, 12) * spread == pytest.approx((student[1] - student[0]) / 2)


def test_bootstrap_in_degenerate_cases() -> None:
    assert math.isnan(bootstrap_interval([0.5]).low)
    equal = bootstrap_interval([0.3, 0.3, 0.3])
    assert (equal.low, equal.mean, equal.high) == (equal.mean, pytest.approx(0.3), equal.mean)
    assert bootstrap_interval(DIFFERENCES) == bootstrap_interval([*DIFFERENCES, math.nan])
    with pytest.raises(ValueError, match="no score"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap_interval([1.0, 2.0], confidence=2.0)
