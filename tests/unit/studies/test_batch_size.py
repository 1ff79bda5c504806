"""Batch size: the rule, and a tiny run."""

from __future__ import annotations

import pytest

from graphnorms.studies.batch_size import STUDY
from graphnorms.studies.study import Case, Finding
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    run_tiny(STUDY)


def finding(layer: float, batch: float, noise: float = 0.01) -> Finding:
    """Losses that small batches double without a norm, and as much more as said with one."""
    harm = {"none": 1.0, "layer": layer, "batch": batch}

    def values(case: Case) -> dict[str, float]:
        small = case["batch"] == 4
        wobble = scatter(case, noise) if case["norm"] == "layer" else scatter(case)
        return {"nll": 0.07 * (2 * harm[str(case["norm"])] * wobble if small else 1.0)}

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("layer", "batch", "noise", "verdict"),
    [
        (1.0, 2.3, 0.01, "confirmed"),
        (1.0, 1.2, 0.01, "not confirmed"),  # BatchNorm does not suffer
        (1.4, 2.3, 0.01, "not confirmed"),  # LayerNorm does
        (0.6, 2.3, 0.01, "not confirmed"),
        (1.0, 2.3, 0.60, "inconclusive"),  # too noisy to tell
        (1.0, 1.3, 0.01, "inconclusive"),
    ],
)
def test_rule(layer: float, batch: float, noise: float, verdict: str) -> None:
    assert finding(layer, batch, noise).verdict == verdict


def test_what_all_norms_suffer_is_divided_out() -> None:
    assert finding(1.1, 2.0).numbers["BatchNorm"] == pytest.approx(2.0)
