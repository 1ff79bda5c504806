"""Batch size: the rule, the best rates, and a tiny run."""

from __future__ import annotations

import pytest

from graphnorms.studies.claim_batch_size import LARGE, NORMS, RATES, SMALL, STUDY, best_rate
from graphnorms.studies.study import Case, Finding, Measurement, Settings, Values
from tests.unit.studies.hand_made import judged, run_tiny, scatter

BEST = {SMALL: "0.001", LARGE: "0.01"}


def test_end_to_end() -> None:
    for each in run_tiny(STUDY):
        assert sorted(each.values) == [
            f"{part} {rate:g}" for part in ("test", "validation") for rate in RATES[1:3]
        ]


def finding(layer: float, batch: float, noise: float = 0.01) -> Finding:
    """Losses that small batches double without a norm, and as much more as said with one.

    At all other rates than the best one the test tells the opposite.
    """
    harm = {"none": 1.0, "layer": layer, "batch": batch}

    def values(case: Case) -> Values:
        small = case["batch"] == SMALL
        wobble = scatter(case, noise) if case["norm"] == "layer" else scatter(case)
        loss = 0.07 * (2 * harm[str(case["norm"])] * wobble if small else 1.0)
        return {
            f"{part} {rate:g}": loss if f"{rate:g}" == BEST[int(case["batch"])] else other / loss
            for rate in RATES
            for part, other in (("test", 0.001), ("validation", 1.0))
        }

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("layer", "batch", "noise", "verdict"),
    [
        (1.0, 2.3, 0.01, "confirmed"),
        (1.0, 1.2, 0.01, "not confirmed"),  # BatchNorm does not suffer
        (1.4, 2.3, 0.01, "not confirmed"),  # LayerNorm does
        (0.6, 2.3, 0.01, "not confirmed"),
        (1.0, 2.3, 0.60, "inconclusive"),  # too noisy to tell
        (1.0, 1.3, 0.01, "inconclusive"),
    ],
)
def test_rule(layer: float, batch: float, noise: float, verdict: str) -> None:
    assert finding(layer, batch, noise).verdict == verdict


def test_what_all_norms_suffer_is_divided_out() -> None:
    numbers = finding(1.1, 2.0).numbers
    assert numbers["BatchNorm"] == pytest.approx(2.0)
    for norm in NORMS:
        for batch, rate in BEST.items():
            assert numbers[f"best rate, {norm}, batch {batch}"] == float(rate)


def test_a_rate_at_which_a_seed_diverges_is_not_the_best() -> None:
    def measurements(kept: float | None) -> list[Measurement]:
        values = {"test 0.01": kept, "validation 0.01": kept}
        return [
            Measurement(case, values | dict.fromkeys(("test 0.1", "validation 0.1"), lost))
            for case in STUDY.cases(Settings())
            for lost in [None if case["seed"] == 1 else 0.01]
        ]

    assert best_rate(measurements(0.1), "none", SMALL) == "0.01"
    assert STUDY.judge(measurements(None), Settings()).verdict == "inconclusive"
