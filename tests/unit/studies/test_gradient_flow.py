"""Gradient flow: the rule, and a tiny run."""

from __future__ import annotations

import math

import pytest

from graphnorms.studies.claim_gradient_flow import STUDY
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case, Finding
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def finding(noise: float = 0.01, none: float = 19.0, **batch: float) -> Finding:
    """As if the gradients of the first and the last layer differed by these powers of ten."""

    def values(case: Case) -> dict[str, object]:
        power = {"none": none, "batch": batch.get(str(case["model"]), 0.5)}
        log = power.get(str(case["norm"]), 0.1) * scatter(case, noise)
        # Without a norm they vanish from small weights and explode from large ones.
        signed = log * math.log2(float(case["gain"])) if case["norm"] == "none" else log
        features = [[1.0, 1.0], [10**signed, 2.0, 1.0]]
        return {"depths": [2, 64], "features": features, "weights": features}

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"mlp": 0.5, "gcn": 0.9}, "confirmed"),
        ({"mlp": -0.5, "gcn": -0.9}, "confirmed"),
        ({"mlp": 5.3, "gcn": 0.5}, "not confirmed"),  # explodes
        ({"mlp": 0.5, "gcn": -5.3}, "not confirmed"),  # vanishes
        ({"mlp": 0.5, "gcn": 1.0}, "inconclusive"),  # on the limit
        ({"mlp": 0.5, "none": 0.5}, "inconclusive"),  # nothing to prevent
        ({"mlp": 1.5, "noise": 0.9}, "inconclusive"),  # too noisy to tell
    ],
)
def test_rule(given, verdict):
    assert finding(**given).verdict == verdict


def test_the_worst_scale_counts():
    numbers = finding(none=3.0, noise=0.0).numbers
    assert numbers["log10 of the factor, MLP, digits, none"] == pytest.approx(3.0)


def test_end_to_end():
    measurements = run_tiny(STUDY)
    for model in ("mlp", "gcn"):
        # BatchNorm and LayerNorm do not see the scale of the weights; without, 2 is not 0.5.
        small, _, large = (
            each.values["features"][-1] for each in where(measurements, model=model, norm="none")
        )
        assert large[0] / large[-1] > 10 * small[0] / small[-1]
        small, _, large = (
            each.values["features"][-1] for each in where(measurements, model=model, norm="batch")
        )
        assert large[0] / large[-1] == pytest.approx(small[0] / small[-1], rel=0.1)
