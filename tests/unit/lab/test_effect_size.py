"""Effect sizes against SciPy and hand-computed values, and the pairs that equality takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from graphnorms.lab.effect_size import better_in, hedges_g
from graphnorms.lab.equivalence import equivalence_by_t
from graphnorms.lab.power import equivalence_power, pairs_to_equal

DIFFERENCES = np.array([0.9, 2.1, 1.4, -0.3, 1.1, 0.2, 1.8, 0.7])


def test_hedges_g_by_hand() -> None:
    """For 3 values: J(2) = Γ(1) / (√1 Γ(1/2)) = 1/√π; mean 2, deviation 1."""
    found = hedges_g([1.0, 2.0, 3.0])
    assert found is not None
    assert found.mean == pytest.approx(2 / math.sqrt(math.pi))


@pytest.mark.parametrize("ratio", [0.0, 1 / 9, 0.25])
def test_the_interval_is_that_of_the_noncentral_t(ratio: float) -> None:
    found = hedges_g(DIFFERENCES, test_ratio=ratio)
    assert found is not None
    unit = math.sqrt(1 / DIFFERENCES.size + ratio)
    t = DIFFERENCES.mean() / DIFFERENCES.std(ddof=1) / unit
    assert stats.nct.cdf(t, 7, found.low / unit) == pytest.approx(0.975, abs=2e-5)
    assert stats.nct.cdf(t, 7, found.high / unit) == pytest.approx(0.025, abs=2e-5)


def test_the_interval_covers_the_effect() -> None:
    """95% of 1000, within three standard errors, in the model of correlated folds."""
    rng = np.random.default_rng(3)
    folds, ratio, effect = 10, 1 / 9, 0.8
    shared = math.sqrt(ratio)  # ρ / (1 − ρ) is the ratio, in units of the spread between folds
    covered = 0
    for _ in range(1000):
        values = effect + shared * rng.standard_normal() + rng.standard_normal(folds)
        found = hedges_g(values, test_ratio=ratio)
        assert found is not None
        covered += found.low <= effect <= found.high
    assert covered == pytest.approx(950, abs=21)


def test_no_effect_size_without_spread_or_with_two_values() -> None:
    assert hedges_g([0.5, 0.5, 0.5]) is None
    assert hedges_g([0.5, 0.7]) is None
    assert hedges_g([0.5, math.nan, 0.7]) is None
    assert better_in([0.1, -0.2, 0.0, 0.3, math.nan]) == (2, 1)


@pytest.mark.parametrize(("difference", "margin"), [(0.0, 0.9), (0.3, 1.2), (-0.5, 1.0)])
def test_power_of_equivalence_is_that_of_the_test(difference: float, margin: float) -> None:
    rng = np.random.default_rng(7)
    pairs, rounds = 12, 2000
    p = [equivalence_by_t(difference + rng.standard_normal(pairs), margin) for _ in range(rounds)]
    said = equivalence_power(difference, 1 / math.sqrt(pairs), margin, pairs - 1)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(said, abs=0.034)


def test_pairs_to_equal() -> None:
    """The least number with 80% power; none outside the margin, or below what repeats can show."""
    needed = pairs_to_equal(0.2, 1.0, 1.0)
    assert needed is not None
    for pairs, enough in ((needed, True), (needed - 1, False)):
        power = equivalence_power(0.2, 1 / math.sqrt(pairs), 1.0, pairs - 1)
        assert (power >= 0.8) is enough
    assert pairs_to_equal(1.0, 1.0, 1.0) is None
    assert pairs_to_equal(0.0, 1.0, 0.5, test_ratio=1 / 9) is None
    assert pairs_to_equal(0.2, 1.0, 1.0, comparisons=10) > needed  # type: ignore[operator]
    assert pairs_to_equal(0.2, 0.0, 1.0, at_least=6) == 6
