"""Batch noise: a tiny run, and the rule."""

from __future__ import annotations

import pytest

from graphnorms.studies.claim_batch_noise import IMAGES, STUDY
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    measurements = run_tiny(STUDY)
    graphs, images = (where(measurements, set=name)[0].values for name in ("nci5k", IMAGES))
    assert len(graphs["mean by layer"]) == 8  # two norms for each of the GIN's convolutions
    assert len(images["mean by layer"]) == 4
    assert graphs["epochs"] == images["epochs"] == [0, 1]


@pytest.mark.parametrize(
    ("mean", "deviation", "noise", "verdict"),
    [
        (3.0, 2.0, 0.01, "confirmed"),
        (3.0, 1.0, 0.01, "not confirmed"),
        (0.5, 2.0, 0.01, "not confirmed"),
        (3.0, 1.5, 0.01, "inconclusive"),
        (3.0, 2.0, 0.6, "inconclusive"),
    ],
)
def test_rule(mean: float, deviation: float, noise: float, verdict: str) -> None:
    def values(case: Case) -> dict[str, float]:
        images = case["set"] == IMAGES
        wobble = scatter(case) if images else scatter(case, noise)
        return {
            "mean": 0.001 * (1 if images else mean) * wobble,
            "deviation": 0.001 * (1 if images else deviation) * wobble,
            "design effect": 1.0,
        }

    assert judged(STUDY, values).verdict == verdict
