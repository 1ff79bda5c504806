"""Practical equivalence against baycomp, statsmodels, and the intervals it is defined by."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from graphnorms.lab.equivalence import (
    equivalence_by_flips,
    equivalence_by_t,
    joint_equivalence_by_flips,
    probabilities,
)
from graphnorms.lab.resampling import sign_flip
from graphnorms.lab.statistics import mean_interval

FIRST = np.array([0.81, 0.84, 0.79, 0.9, 0.86, 0.83, 0.88, 0.8, 0.85, 0.87])
SECOND = np.array([0.80, 0.85, 0.78, 0.89, 0.86, 0.82, 0.88, 0.81, 0.84, 0.865])
DIFFERENCES = FIRST - SECOND


@pytest.mark.parametrize("rope", [0.0, 0.005, 0.01, 0.05])
def test_the_probabilities_are_those_of_baycomp(rope: float) -> None:
    import baycomp

    # Ten folds: baycomp takes ρ = 1/10, so that n_test / n_train is 1/9.
    oracle = baycomp.two_on_single(SECOND, FIRST, rope=rope)
    ours = probabilities(DIFFERENCES, rope, test_ratio=1 / 9)
    assert ours is not None
    if rope:
        second, equal, first = oracle
        assert (ours.first, ours.equal, ours.second) == pytest.approx((first, equal, second))
    else:
        assert (ours.second, ours.first) == pytest.approx(tuple(oracle))
        assert ours.equal == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("margin", [0.004, 0.01, 0.03])
def test_without_overlap_equivalence_is_the_tost_of_statsmodels(margin: float) -> None:
    from statsmodels.stats.weightstats import ttost_paired

    p_value, _, _ = ttost_paired(FIRST, SECOND, -margin, margin)
    assert equivalence_by_t(DIFFERENCES, margin) == pytest.approx(p_value)


@pytest.mark.parametrize("ratio", [0.0, 1 / 9])
def test_equivalence_is_the_interval_inside_the_margin(ratio: float) -> None:
    interval = mean_interval(DIFFERENCES, test_ratio=ratio, confidence=0.9)
    margin = max(-interval.low, interval.high)
    assert equivalence_by_t(DIFFERENCES, margin, test_ratio=ratio) == pytest.approx(0.05)
    assert equivalence_by_t(DIFFERENCES, 1.1 * margin, test_ratio=ratio) < 0.05


def test_equivalence_by_flips_is_two_one_sided_tests() -> None:
    margin = 0.02
    expected = max(
        sign_flip(DIFFERENCES + margin, side="greater"),
        sign_flip(margin - DIFFERENCES, side="greater"),
    )
    assert equivalence_by_flips(DIFFERENCES, margin) == expected == 2.0**-10
    assert equivalence_by_flips(DIFFERENCES + 0.05, margin) == 1.0


def test_joint_equivalence_of_one_pair_is_its_own() -> None:
    for values in (DIFFERENCES, DIFFERENCES - 0.01, DIFFERENCES + 0.05):
        for margin in (0.004, 0.01, 0.02):
            assert joint_equivalence_by_flips(values[None], margin) == [
                equivalence_by_flips(values, margin)
            ]


def test_joint_equivalence_is_one_sided_max_t_by_enumeration() -> None:
    """Every flip of the room at the nearer end, every t-statistic and maximum, one by one."""
    scores = np.random.default_rng(5).normal(0, 1, (4, 7)) + np.array([[0], [0.2], [0.4], [1.5]])
    margin = 1.6
    d = np.stack([scores[i] - scores[j] for i, j in itertools.combinations(range(4), 2)])

    def t(values: np.ndarray) -> float:
        return float(values.mean() / (values.std(ddof=1) / math.sqrt(len(values))))

    rooms = [min((margin - row, margin + row), key=t) for row in d]
    seen = [t(room) for room in rooms]
    order = sorted(range(6), key=lambda row: -seen[row])
    expected, largest = [0.0] * 6, 0.0
    flips = [np.array(signs) for signs in itertools.product((1, -1), repeat=7)]
    for rank, row in enumerate(order):
        hits = sum(
            max(t(signs * rooms[other]) for other in order[rank:]) >= seen[row] - 1e-9
            for signs in flips
        )
        largest = max(largest, hits / len(flips))
        expected[row] = max(largest, equivalence_by_flips(d[row], margin))
    found = joint_equivalence_by_flips(d, margin)
    assert found == pytest.approx(expected)
    assert min(found) <= 0.05 < max(found)
    assert joint_equivalence_by_flips(-d[::-1], margin) == pytest.approx(expected[::-1])


def test_six_seeds_show_any_number_of_norms_to_be_equal() -> None:
    """Holm's adjustment of 45 pairs has no p-value below 45 / 2⁶."""
    d = 0.001 * np.random.default_rng(6).standard_normal((45, 6))
    assert joint_equivalence_by_flips(d, 0.01) == [2.0**-6] * 45


def test_joint_equivalence_where_a_pair_lacks_a_seed() -> None:
    d = np.array([[0.0, 0.001, -0.001, math.nan], [0.01, 0.01, 0.01, 0.01]])
    assert joint_equivalence_by_flips(d, 0.01) == [2.0**-3, 1.0]


def test_norms_that_differ_by_the_margin_are_called_equal_at_most_as_often_as_promised() -> None:
    """Two norms are better than three others by just the margin: six pairs that are not equal."""
    rng, rounds, called = np.random.default_rng(7), 400, 0
    for _ in range(rounds):
        scores = rng.normal(0, 0.005, (5, 10)) + 0.01 * np.array([[1], [1], [0], [0], [0]])
        across = np.stack([scores[i] - scores[j] for i in (0, 1) for j in (2, 3, 4)])
        within = np.stack([scores[0] - scores[1], scores[2] - scores[3], scores[2] - scores[4]])
        p_values = joint_equivalence_by_flips(np.concatenate((across, within)), 0.01)
        called += min(p_values[:6]) <= 0.05
    assert called <= stats.binom.ppf(0.999, rounds, 0.05)


def test_equivalence_does_not_depend_on_which_is_first() -> None:
    for test in (equivalence_by_t, equivalence_by_flips):
        assert test(DIFFERENCES, 0.01) == pytest.approx(test(-DIFFERENCES, 0.01))


def test_a_difference_of_the_margin_is_called_equal_at_most_as_often_as_promised() -> None:
    rng = np.random.default_rng(0)
    draws = 0.01 + 0.005 * rng.standard_normal((4000, 10))
    for test in (equivalence_by_t, equivalence_by_flips):
        called = np.mean([test(row, 0.01) <= 0.05 for row in draws[: 4000 if test else 1000]])
        assert called <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)
        assert called > 0.02


def test_equivalence_in_degenerate_cases() -> None:
    assert math.isnan(equivalence_by_t([0.1], 0.2))
    assert probabilities([0.1], 0.2) is None
    assert equivalence_by_t([0.1] * 4, 0.2) == 1 / 16
    assert equivalence_by_t([0.3] * 4, 0.2) == 1.0
    certain = probabilities([0.1] * 4, 0.2)
    assert certain is not None
    assert (certain.first, certain.equal, certain.second) == (0, 1, 0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("noise", [0.0, 1e-16, 1e-13])
def test_on_the_edge_up_to_rounding_both_tests_say_not_equal(sign: int, noise: float) -> None:
    """0.81 − 0.80 is 0.010000000000000009, and 0.80 − 0.79 is 0.010000000000000009 too."""
    scores = np.linspace(0.6, 0.9, 10)
    wobble = noise * np.array([1, -1] * 5)
    differences = sign * ((scores + 0.01 + wobble) - scores)
    assert equivalence_by_t(differences, 0.01, test_ratio=10 / 81) == 1.0
    assert equivalence_by_flips(differences, 0.01) == 1.0
    found = probabilities(differences, 0.01)
    assert found is not None
    assert (found.first, found.equal, found.second) == (0.0, 1.0, 0.0)
    # A thousandth inside the margin all signs agree, for both.
    inside = 0.999 * differences
    assert equivalence_by_t(inside, 0.01) == equivalence_by_flips(inside, 0.01) == 2.0**-10
