"""Sequence length: the rule, the statistics of the two BatchNorms, and a tiny run."""

from __future__ import annotations

import pytest
import torch

from graphnorms.studies import claim_sequence_length
from graphnorms.studies.claim_sequence_length import PER_STEP, SHARED, STUDY, TRAINED
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case, Settings, Values
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    """The two BatchNorms differ in the test only."""
    measurements = run_tiny(STUDY)
    for task in claim_sequence_length.TASKS:
        shared, per_step = (
            where(measurements, task=task, norm=norm)[0].values for norm in (SHARED, PER_STEP)
        )
        assert shared["curve"][0] == per_step["curve"][0]
        # Then up to rounding: the gradients of all steps are added in another order.
        assert shared["curve"] == pytest.approx(per_step["curve"], rel=1e-3)
        assert shared["test"] != per_step["test"]


def test_the_two_batch_norms() -> None:
    """One has running averages for every training step, the other one for all."""
    for norm, sets in ((PER_STEP, TRAINED), (SHARED, 1)):
        case: Case = {"task": "text", "norm": norm, "seed": 0}
        model = claim_sequence_length._text(case, Settings(size="tiny")).model
        assert len(model.get_submodule("lstm.cells.0.norm_hh.norms")) == sets


@pytest.mark.parametrize("make", [claim_sequence_length._digits, claim_sequence_length._text])
def test_norms_see_the_same_draws(make) -> None:
    """So that losses are paired: with the same weights they are the same."""
    tasks = [make({"task": "", "norm": "none", "seed": 3}, Settings(size="tiny")) for _ in range(2)]
    with torch.no_grad():
        first, second = ([task.loss(8, unseen) for unseen in (False, True)] for task in tasks)
    assert first == second
    assert first[0] != first[1]


@pytest.mark.parametrize(
    ("layer", "shared", "step", "verdict"),
    [
        (0.8, 1.4, 1.3, "confirmed"),
        (1.1, 1.4, 1.3, "not confirmed"),  # LayerNorm hurts
        (1.0, 1.4, 1.3, "not confirmed"),  # or makes no difference
        (0.8, 1.4, 0.7, "not confirmed"),  # one BatchNorm is better than LayerNorm
        (0.8, 1.4, 1.0, "not confirmed"),  # or as good
        (0.98, 1.4, 1.3, "inconclusive"),
        (0.8, 1.02, 1.3, "inconclusive"),
    ],
)
def test_rule(layer: float, shared: float, step: float, verdict: str) -> None:
    def values(case: Case) -> Values:
        loss = 1.0 if case["norm"] == "none" else layer * scatter(case)
        if case["norm"] in (SHARED, PER_STEP):
            loss *= (shared if case["norm"] == SHARED else step) * scatter(case)
        return {"test": loss, "training": 2 * loss, "curve": []}

    found = judged(STUDY, values)
    assert found.verdict == verdict
    assert found.numbers["text, LayerNorm over none"] == pytest.approx(layer, rel=0.01)
    assert found.numbers["digits, none, training loss"] == pytest.approx(2)
