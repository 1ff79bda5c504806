"""Regularization: a tiny run, what the arms are, and the rule."""

from __future__ import annotations

import pytest

from graphnorms.studies.regularization import BATCHES, STUDY
from graphnorms.studies.study import Case, where
from tests.unit.studies.hand_made import judged, run_tiny


def test_end_to_end() -> None:
    measurements = run_tiny(STUDY)
    for each in measurements:
        values = each.values
        assert values["gap"] == values["validation loss"] - values["training loss"]
    # The largest batch is half of the set: its statistics are not those of the set.
    for norm in ("batch", "dataset"):
        assert where(measurements, norm=norm, batch=BATCHES[-1], dropout=0.0)
    batch, dataset = (
        where(measurements, norm=norm, batch=BATCHES[-1], dropout=0.0)[0].values
        for norm in ("batch", "dataset")
    )
    assert batch["training loss"] != dataset["training loss"]


@pytest.mark.parametrize(
    ("none", "dataset", "noise", "verdict"),
    [
        (0.5, 0.4, 0.01, "confirmed"),
        (0.2, 0.4, 0.01, "not confirmed"),  # no norm has a smaller gap
        (0.5, 0.2, 0.01, "not confirmed"),  # the noise of the batches is not what does it
        (0.5, 0.3, 0.02, "inconclusive"),
        (0.5, 0.4, 0.4, "inconclusive"),
    ],
)
def test_rule(none: float, dataset: float, noise: float, verdict: str) -> None:
    gaps = {"none": none, "batch": 0.3, "dataset": dataset}

    def values(case: Case) -> dict[str, float]:
        wobble = noise * (int(case["seed"]) % 3 - 1) if case["norm"] == "batch" else 0.0
        # Only the smallest batch without dropout decides.
        decides = case["batch"] == BATCHES[0] and not case["dropout"]
        gap = gaps[str(case["norm"])] + wobble if decides else 0.1
        return {"gap": gap, "accuracy gap": 0.0, "training loss": 0.0}

    assert judged(STUDY, values).verdict == verdict
