"""Bounded: what a line and a tanh explain of LayerNorm, a tiny run, and the rule."""

from __future__ import annotations

import pytest
import torch

from graphnorms.studies.claim_bounded import BOUNDED, STUDY, explained
from graphnorms.studies.study import Case, Values
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    run_tiny(STUDY)


def test_a_line_explains_rows_of_one_spread_and_a_tanh_more_of_two() -> None:
    row = torch.tensor([[1.0, -1.0, 2.0, -2.0]])
    assert explained(torch.cat([row, row.flip(1)]), None) == pytest.approx(1.0)
    # LayerNorm makes the same of both: c (1 + 10) ‖row‖² of 2 ‖row‖² and (1 + 100) ‖row‖².
    two = torch.cat([row, 10 * row])
    assert explained(two, None) == pytest.approx(11**2 / (2 * 101), rel=1e-4)
    assert explained(two, 0.3) > 0.8


@pytest.mark.parametrize(
    ("text", "graphs", "noise", "verdict"),
    [
        (1.0, 0.99, 0.01, "confirmed"),
        (1.0, 0.8, 0.01, "not confirmed"),
        (0.8, 1.0, 0.01, "not confirmed"),
        (1.0, 0.95, 0.02, "inconclusive"),
        (1.0, 0.99, 0.3, "inconclusive"),
    ],
)
def test_rule(text: float, graphs: float, noise: float, verdict: str) -> None:
    def values(case: Case) -> Values:
        share = 1.0
        if case["norm"] in BOUNDED:
            share = scatter(case, noise) * (text if case["model"] == "sequence" else graphs)
        return {"learned": share, "last": 1.0, "line": [0.9], "tanh": [0.95]}

    assert judged(STUDY, values).verdict == verdict
