"""Covariate shift: a tiny run, the noise, and the rule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.studies.claim_covariate_shift import ARMS, NOISY, STUDY, Noisy
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case, Values
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    measurements = run_tiny(STUDY)
    for each in measurements:
        assert len(each.values["losses"]) == 30  # those of the measured steps too
        assert ("difference" in each.values) == (each.case["norm"] != NOISY)
    for each in where(measurements, norm="none"):
        assert each.values["relative"] > 0
        assert each.values["cosine"] <= 1


def test_noise_moves_units_and_samples_in_training_only() -> None:
    torch.manual_seed(0)
    noisy = Noisy(nn.Identity())
    x = torch.ones(20_000, 3)
    y = noisy(x)
    means, other = y.mean(0), noisy(x).mean(0)
    assert ((means > 0.5) & (means < 1.75)).all()  # 1 · U(1, 1.25) + U(-0.5, 0.5)
    assert (means != other).all()  # anew at every step
    # Around its mean a sample varies by 0.1² for the scale and 0.1²/3 for the shift.
    error = 5 * (2 / len(x)) ** 0.5
    assert y.var(0).tolist() == pytest.approx([0.01 * 4 / 3] * 3, rel=error)
    assert torch.equal(noisy.eval()(x), x)


@pytest.mark.parametrize(
    ("difference", "relative", "noise", "verdict"),
    [
        (0.5, 0.6, 0.01, "confirmed"),
        (0.2, 1.3, 0.01, "not confirmed"),  # smaller only because the gradients are
        (1.4, 0.6, 0.01, "not confirmed"),
        (0.5, 0.9, 0.01, "inconclusive"),
        (0.5, 0.8, 0.6, "inconclusive"),
    ],
)
def test_rule(difference: float, relative: float, noise: float, verdict: str) -> None:
    def values(case: Case) -> Values:
        batch = case["norm"] == "batch"
        wobble = scatter(case, noise) if batch else scatter(case)
        return {
            "difference": (difference if batch else 1.0) * wobble,
            "relative": (relative if batch else 1.0) * wobble,
            "cosine": 0.5,
            "final loss": 0.1 * (1 + ARMS.index(str(case["norm"]))),
        }

    assert judged(STUDY, values).verdict == verdict
