"""Initialization: the rule, what is kept, the rates, and a tiny run."""

from __future__ import annotations

import math

import pytest
from torch import nn

from graphnorms.studies.claim_initialization import GAINS, STUDY, observe
from graphnorms.studies.study import Case, Finding, Settings, Values
from graphnorms.studies.swept_models import TrainingTask
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def finding(one: tuple[float, float], effective: tuple[float, float], noise: float) -> Finding:
    """As if these shares of the best progress were kept, with BatchNorm and without a norm."""

    def values(case: Case) -> Values:
        batch, none = one if case["rate"] == "one" else effective
        share = {"none": none, "batch": batch if case["model"] == "gin" else 0.95}
        return {"kept": min(1.0, share.get(str(case["norm"]), 0.5) * scatter(case, noise))}

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("one", "effective", "noise", "verdict"),
    [
        ((0.9, 0.4), (0.9, 0.6), 0.01, "confirmed"),
        ((0.5, 0.4), (0.9, 0.6), 0.01, "not confirmed"),  # not robust
        ((0.9, 0.98), (0.9, 0.6), 0.01, "not confirmed"),  # no more than without
        ((0.9, 0.4), (0.6, 0.3), 0.01, "not confirmed"),  # not where the rate fits
        ((0.9, 0.4), (0.95, 0.93), 0.01, "not confirmed"),  # without a norm it is the rate alone
        ((0.9, 0.9), (0.9, 0.6), 0.01, "inconclusive"),
        ((0.9, 0.4), (0.95, 0.85), 0.01, "inconclusive"),
        ((0.9, 0.4), (0.9, 0.4), 0.60, "inconclusive"),
    ],
)
def test_rule(one, effective, noise, verdict):
    assert finding(one, effective, noise).verdict == verdict


def ending(losses: list[float]) -> float:
    """Return what is kept where runs end with these losses, of 2.0 for knowing nothing."""
    left = list(losses)

    def make(gain: float) -> TrainingTask:
        model = nn.Linear(1, 1, bias=False)
        loss = left.pop(0)
        return TrainingTask(model, (loss + 0 * model.weight.sum() for _ in range(1)), 2.0, [])

    case: Case = {"model": "mlp", "rate": "one"}
    return float(observe(make, case, Settings(size="planted"))["kept"])


def test_what_diverged_has_kept_nothing():
    assert ending([math.nan, 3.0, math.inf, 1.0, 1.5]) == pytest.approx(1.5 / 5)


def test_what_never_trained_has_kept_nothing():
    assert ending([math.inf] * 5) == 0


def test_at_equal_effective_rate_steps_are_in_proportion():
    moved = []

    def make(gain: float) -> TrainingTask:
        model = nn.Sequential(nn.Linear(1, 1))
        nn.init.constant_(model[0].weight, gain)
        nn.init.zeros_(model[0].bias)
        moved.append((gain, model[0]))
        losses = (1e-12 * (model[0].weight + model[0].bias).sum() for _ in range(1))
        return TrainingTask(model, losses, 2.0, [])

    case: Case = {"model": "mlp", "rate": "effective"}
    observe(make, case, Settings(size="planted"))
    assert [gain for gain, _ in moved] == list(GAINS)
    for gain, linear in moved:
        assert linear.weight.item() == pytest.approx(gain * 0.997, rel=1e-5)
        assert linear.bias.item() == pytest.approx(-0.003, rel=1e-3)


def test_end_to_end():
    for each in run_tiny(STUDY):
        expected = math.log(10) if each.case["model"] == "mlp" else 0.638  # 63 and 125 molecules
        assert each.values["ignorant"] == pytest.approx(expected, abs=1e-3)
        assert 0 <= each.values["kept"] <= 1
