"""Ratios paired by seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphnorms.lab.statistics import Estimate, mean_interval
from graphnorms.studies.evidence import (
    Check,
    concluded,
    numbers_of,
    paired_ratio,
    summary,
    verdict_of,
    written,
)
from graphnorms.studies.measured_values import by_seed
from graphnorms.studies.study import Measurement


def test_a_common_factor_cancels_exactly() -> None:
    """What the seeds have in common does not widen the interval; one pair gives none."""
    second = np.array([1.0, 10.0, 0.3])
    found = paired_ratio(2 * second, second)
    assert [found.mean, found.low, found.high] == pytest.approx([2.0, 2.0, 2.0])
    one = paired_ratio([3.0], [2.0])
    assert one.mean == pytest.approx(1.5)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_it_is_student_s_interval_of_the_logarithms() -> None:
    first, second = [1.0, 2.0, 5.0], [3.0, 2.5, 4.0]
    found = paired_ratio(first, second)
    logs = mean_interval(np.log(first) - np.log(second))
    assert found.mean == pytest.approx(np.prod(first) ** (1 / 3) / np.prod(second) ** (1 / 3))
    assert (found.low, found.high) == pytest.approx((math.exp(logs.low), math.exp(logs.high)))


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, -1.0])
def test_nothing_follows_from_a_run_that_failed(value: float) -> None:
    found = paired_ratio([1.0, value], [1.0, 1.0])
    assert not found.low > 0
    assert not found.high < 1e9
    assert numbers_of({"r": found}) == {"r": None, "r, low": None, "r, high": None}


def test_values_by_seed() -> None:
    measurements = [
        Measurement({"norm": norm, "seed": seed}, {"loss": None if seed == 2 else 10.0 * seed})
        for norm in ("a", "b")
        for seed in (2, 0, 1)
    ]
    values = by_seed(measurements, "loss", norm="a")
    assert values[:2] == [0.0, 10.0]
    assert math.isnan(values[2])
    with pytest.raises(ValueError, match="expected one case for each"):
        by_seed(measurements, "loss")
    with pytest.raises(ValueError, match="expected one case for each"):
        by_seed(measurements, "loss", norm="c")


def test_written() -> None:
    assert written(paired_ratio([2.0, 2.0], [1.0, 1.0])) == "2.00 [2.00, 2.00]"
    small = paired_ratio([2e-5, 2e-5], [1.0, 1.0])
    assert written(small, significant=True) == "2e-05 [2e-05, 2e-05]"
    assert written(small, 6) == "0.000020 [0.000020, 0.000020]"
    assert written(paired_ratio([1.5], [1.0])) == "1.50"


def test_checks_give_verdict_and_sentence() -> None:
    holds = Check("near", Estimate(0.5, 0.4, 0.8), 0.9)
    far = Check("far", Estimate(0.1, 0.05, 0.2), 0.9)
    undecided = Check("between", Estimate(0.9, 0.8, 1.0), 0.9)
    against = Check("beyond", Estimate(0.5, 0.4, 0.6), 0.9, above=True)
    assert verdict_of([holds, far]) == "confirmed"
    assert verdict_of([holds, undecided]) == "inconclusive"
    assert verdict_of([holds, undecided, against]) == "not confirmed"
    assert summary([far, holds]).endswith("the closest to its limit is near, 0.50 [0.40, 0.80].")
    said = summary([holds, undecided, against], 1)
    assert "1 of the 3 intervals is as predicted." in said
    assert "Contrary to the prediction: beyond, 0.5 [0.4, 0.6]." in said
    assert said.endswith("between, 0.9 [0.8, 1.0].")
    assert summary([against] * 5).endswith("; and 3 more.")


def test_an_open_conclusion_begins_with_its_subject() -> None:
    assert concluded("inconclusive", yes="BatchNorm helps.", no="").endswith(
        "whether BatchNorm helps."
    )
    assert concluded("inconclusive", yes="A norm helps.", no="").endswith("whether a norm helps.")
