"""Sequence length: the rule, the statistics of the two BatchNorms, and a tiny run."""

from __future__ import annotations

import pytest

from graphnorms.studies import sequence_length
from graphnorms.studies.sequence_length import PER_STEP, SHARED, STUDY, TRAINED
from graphnorms.studies.study import Case, Settings, Values
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    run_tiny(STUDY)


def test_the_two_batch_norms() -> None:
    """One has running averages for every training step, the other one for all."""
    for norm, sets in ((PER_STEP, TRAINED), (SHARED, 1)):
        case: Case = {"task": "text", "norm": norm, "seed": 0}
        model = sequence_length._text(case, Settings(size="tiny")).model
        assert len(model.get_submodule("lstm.cells.0.norm_hh.norms")) == sets


@pytest.mark.parametrize(
    ("layer", "shared", "step", "verdict"),
    [
        (0.8, 1.4, 1.3, "confirmed"),
        (1.1, 1.4, 1.3, "not confirmed"),  # LayerNorm hurts
        (0.8, 1.4, 0.7, "not confirmed"),  # one BatchNorm is better than LayerNorm
        (1.0, 1.4, 1.3, "inconclusive"),
        (0.8, 1.0, 1.3, "inconclusive"),
    ],
)
def test_rule(layer: float, shared: float, step: float, verdict: str) -> None:
    def values(case: Case) -> Values:
        loss = 1.0 if case["norm"] == "none" else layer * scatter(case)
        if case["norm"] in (SHARED, PER_STEP):
            loss *= (shared if case["norm"] == SHARED else step) * scatter(case, 0.02)
        lengths = sequence_length._lengths()
        return {**{f"test {length}": loss for length in lengths}, "reached": 50, "curve": []}

    found = judged(STUDY, values)
    assert found.verdict == verdict
    assert found.numbers["text, LayerNorm over none"] == pytest.approx(layer, rel=0.01)
    assert found.numbers["digits, none, steps to 1 nats"] == 50
