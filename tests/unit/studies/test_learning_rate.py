"""Learning rate: the rule, the search for the largest rate, and a tiny run."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from graphnorms.studies.claim_learning_rate import RATES, STUDY, observe
from graphnorms.studies.study import Case, Finding, Settings, Values
from graphnorms.studies.swept_models import TrainingTask
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def finding(mlp: float, gin: float, held: float, noise: float = 0.01) -> Finding:
    """As if BatchNorm allowed so many times the rate, and where lengths are held."""

    def values(case: Case) -> Values:
        if case["norm"] != "batch":
            return {"largest": 0.5}
        times = held if case["weights"] == "held" else mlp if case["model"] == "mlp" else gin
        return {"largest": 0.5 * times * scatter(case, noise)}

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ((9.0, 8.0, 2.0), "confirmed"),
        ((9.0, 4.0, 2.0), "not confirmed"),
        ((1.0, 8.0, 2.0), "not confirmed"),
        ((9.0, 8.0, 1.0), "not confirmed"),  # by construction only
        ((9.0, 8.0, 2**0.5), "inconclusive"),
        ((9.0, 8.0, 2.0, 0.9), "inconclusive"),
        ((9.0, math.nan, 2.0), "inconclusive"),  # nothing trained at all
    ],
)
def test_rule(given, verdict):
    assert finding(*given).verdict == verdict


def test_numbers():
    numbers = finding(8.0, 8.0, 2.0, 0.0).numbers
    assert numbers["largest stable rate, MLP, digits, none"] == pytest.approx(0.5)
    assert numbers["largest stable rate, MLP, digits, batch / none"] == pytest.approx(8)
    name = "largest stable rate at equal effective rate, MLP, digits, batch / none"
    assert numbers[name] == pytest.approx(2)


@pytest.mark.parametrize("limit", [2**-13, 0.3, 0.5, 0.9, 10.0, 100.0])
def test_the_largest_rate_that_trains_is_found(limit: float) -> None:
    """On a parabola a rate is stable up to 2 over the curvature."""

    def make() -> TrainingTask:
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        losses = (model.weight.square().sum() / limit for _ in range(200))
        return TrainingTask(model, losses, 1.0 / limit, [model.weight])

    found = observe(make, {"weights": "free"}, Settings(size="planted"))["largest"]
    if limit < RATES[-1]:
        assert math.isnan(found)
    else:
        assert found < limit * (1 + 1e-6)
        assert found == RATES[0] or found * 2**0.25 > 0.99 * limit


def test_end_to_end():
    for each in run_tiny(STUDY):
        assert each.values["largest"] is None or each.values["largest"] > 0
        assert torch.tensor([float(rate) for rate in each.values["losses"]]).min() > 0
