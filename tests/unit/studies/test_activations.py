"""Activations: the rule, and a tiny run."""

from __future__ import annotations

import pytest
import torch

from graphnorms.models import GNN, preset
from graphnorms.studies.activations import STUDY, _gin_quantiles
from graphnorms.studies.material import graphs
from graphnorms.studies.study import Case, Finding
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def finding(mlp: float, gin: float, noise: float = 0.01) -> Finding:
    """As if quantiles drifted by these shares of the drift without a norm."""

    def values(case: Case) -> dict[str, object]:
        share = {"none": 1.0, "batch": mlp if case["model"] == "mlp" else gin}
        drift = share.get(str(case["norm"]), 0.8)
        if case["norm"] == "batch":
            drift *= scatter(case, noise)
        return {"loss": 0.1, "drift": {"first": 2 * drift, "second": 5 * drift}, "steps": [0, 1]}

    return judged(STUDY, values)


@pytest.mark.parametrize(("mlp", "gin", "noise", "verdict"), [
    (0.2, 0.4, 0.01, "confirmed"),
    (0.2, 0.6, 0.01, "not confirmed"),
    (1.3, 0.2, 0.01, "not confirmed"),
    (0.2, 0.5, 0.01, "inconclusive"),
    (0.2, 0.4, 0.90, "inconclusive"),
])  # fmt: skip
def test_rule(mlp, gin, noise, verdict):
    found = finding(mlp, gin, noise)
    assert found.verdict == verdict
    if noise < 0.1:
        assert found.numbers["drift, MLP, digits, batch / none"] == pytest.approx(mlp, rel=0.01)


def test_quantiles_are_of_what_enters_the_relu():
    molecules = graphs("MUTAG", None)
    model = GNN(preset("gin"), "batch", molecules.num_features, 2, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for quantiles in _gin_quantiles(model, molecules).values():
        assert quantiles.shape == (3, 64)
        assert (quantiles[0] < 0).any(), "not behind the ReLU"
        assert (quantiles[:2].diff(dim=0) >= 0).all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_end_to_end():
    for each in run_tiny(STUDY):
        assert len(each.values["drift"]) == (3 if each.case["model"] == "mlp" else 8)
        assert len(each.values["steps"]) == len(each.values["typical_unit"]) == 5
