"""Regularization: a tiny run, what is compared at equal training loss, and the rule."""

from __future__ import annotations

import math

import pytest

from graphnorms.studies.claim_regularization import BATCHES, STUDY, at_training_loss
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case
from tests.unit.studies.hand_made import judged, run_tiny


def test_end_to_end() -> None:
    measurements = run_tiny(STUDY)
    for each in measurements:
        assert each.values["lowest"] == pytest.approx(min(each.values["validation"]), abs=1e-6)
    # The largest batch is half of the set: its statistics are not those of the set.
    batch, dataset = (
        where(measurements, norm=norm, batch=BATCHES[-1])[0].values["training"]
        for norm in ("batch", "dataset")
    )
    assert batch != dataset


def test_validation_loss_at_a_training_loss() -> None:
    training, validation = [1.0, 0.4, 0.1, 0.2, 0.05], [2.0, 1.0, 0.8, 0.9, 0.7]
    assert at_training_loss(training, validation, 0.4) == pytest.approx(1.0)
    # 0.2 is half way from 0.4 to 0.1, by logarithms; where it is reached first counts.
    assert at_training_loss(training, validation, 0.2) == pytest.approx(0.9)
    assert math.isnan(at_training_loss(training, validation, 0.01))
    assert math.isnan(at_training_loss(training, validation, 1.0))  # there from the start


@pytest.mark.parametrize(
    ("none", "dataset", "lowest", "noise", "verdict"),
    [
        (0.5, 0.5, 0.5, 0.01, "confirmed"),
        (0.3, 0.5, 0.5, 0.01, "not confirmed"),  # as good without a norm
        (0.5, 0.3, 0.5, 0.01, "not confirmed"),  # the noise of the batches is not what does it
        (0.5, 0.5, 0.3, 0.01, "not confirmed"),  # not in what can be had
        (0.5, 0.3 / 0.95, 0.5, 0.02, "inconclusive"),
        (0.5, 0.5, 0.5, 0.97, "inconclusive"),
        (0.5, 0.5, 0.5, math.nan, "inconclusive"),  # a run did not come so far
    ],
)
def test_rule(none: float, dataset: float, lowest: float, noise: float, verdict: str) -> None:
    losses = {"none": none, "batch": 0.3, "dataset": dataset}

    def values(case: Case) -> dict[str, float]:
        if case["batch"] != BATCHES[0]:  # only the smallest batch decides
            return {"equal": 0.1, "lowest": 0.1}
        batch = case["norm"] == "batch"
        wobble = 1 + noise * (int(case["seed"]) % 3 - 1) if batch else 1.0
        return {
            "equal": losses[str(case["norm"])] * wobble,
            "lowest": 0.3 if batch else lowest,
        }

    assert judged(STUDY, values).verdict == verdict
