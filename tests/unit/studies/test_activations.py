"""Activations: the rule, and a tiny run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.models import GNN, preset
from graphnorms.studies.claim_activations import MEASURES, STUDY, _gin_inputs, observe
from graphnorms.studies.study import Case, Finding, Settings
from graphnorms.studies.study_data import graph_set
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def finding(drift: float, shape: float, noise: float = 0.01) -> Finding:
    """As if quantiles drifted by these shares of the drift without a norm; more in the MLP."""

    def values(case: Case) -> dict[str, object]:
        share = {"drift": drift, "shape": shape if case["model"] == "gin" else 0.1}
        batch = case["norm"] == "batch"
        return {
            name: 2 * (each * scatter(case, noise) if batch else 1) for name, each in share.items()
        }

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("drift", "shape", "noise", "verdict"),
    [
        (0.2, 0.4, 0.01, "confirmed"),
        (0.2, 0.6, 0.01, "not confirmed"),  # still by what the norm sets, and not in its shape
        (1.3, 0.2, 0.01, "not confirmed"),
        (0.2, 0.5, 0.01, "inconclusive"),
        (0.2, 0.4, 0.90, "inconclusive"),
    ],
)
def test_rule(drift, shape, noise, verdict):
    found = finding(drift, shape, noise)
    assert found.verdict == verdict
    if noise < 0.1:
        name = "drift of the quantiles, MLP, digits, batch / none"
        assert found.numbers[name] == pytest.approx(drift, rel=0.01)


@pytest.mark.parametrize(("moved", "still"), [(1.0, True), (0.0, False)])
def test_shape_is_what_a_shift_and_a_scale_leave(moved: float, still: bool) -> None:
    """Inputs that are shifted and scaled keep their shape, those that are bent do not."""
    a = nn.Parameter(torch.zeros(()))
    z = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))

    def look() -> dict[str, torch.Tensor]:
        bent = 0.0 if still else 1.0
        return {"units": z * (1 + moved * a) + moved * a + bent * a * z.square()}

    optimizer = torch.optim.SGD([a], lr=0.1)
    found = observe(lambda rows: -a, optimizer, [torch.arange(1)] * 8, look, Settings(size="tiny"))
    assert found["drift"] > 0.05
    assert (found["shape"] < 1e-5) is still
    assert found["drift by layer"] == {"units": pytest.approx(found["drift"])}


def test_what_enters_the_relu_is_not_cut():
    molecules = graph_set("MUTAG", None)
    model = GNN(preset("gin"), "batch", molecules.num_features, 2, seed=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for x in _gin_inputs(model, molecules).values():
        assert x.shape == (molecules.batch(torch.arange(len(molecules))).x.shape[0], 64)
        assert (x < 0).any(), "not behind the ReLU"
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_end_to_end():
    for each in run_tiny(STUDY):
        for name in MEASURES:
            layers = each.values[f"{name} by layer"]
            assert len(layers) == (3 if each.case["model"] == "mlp" else 8)
            assert len(each.values["steps"]) == len(each.values[f"typical unit, {name}"]) == 5
