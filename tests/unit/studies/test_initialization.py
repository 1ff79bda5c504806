"""Initialization: the rule, and a tiny run."""

from __future__ import annotations

import math

import pytest

from graphnorms.studies.initialization import GAINS, STUDY
from graphnorms.studies.study import Case, Finding
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def finding(batch: dict[str, float], none: float = 0.4, noise: float = 0.01) -> Finding:
    """As if these shares of the best progress were kept, away from the best gain."""

    def values(case: Case) -> dict[str, object]:
        share = {"none": none, "batch": batch[str(case["model"])]}.get(str(case["norm"]), 0.5)
        share = min(1.0, share * scatter(case, noise))
        losses = [2.0 * (1 - (1.0 if gain == 1.0 else share)) for gain in GAINS]
        return {"gains": list(GAINS), "losses": losses, "ignorant": 2.0}

    return judged(STUDY, values)


@pytest.mark.parametrize(("mlp", "gin", "none", "noise", "verdict"), [
    (0.95, 0.9, 0.4, 0.01, "confirmed"),
    (0.95, 0.5, 0.4, 0.01, "not confirmed"),  # not robust
    (0.95, 0.9, 0.98, 0.01, "not confirmed"),  # no more than without
    (0.95, 0.9, 0.9, 0.01, "inconclusive"),  # as much
    (0.95, 0.9, 0.4, 0.60, "inconclusive"),
])  # fmt: skip
def test_rule(mlp, gin, none, noise, verdict):
    assert finding({"mlp": mlp, "gin": gin}, none, noise).verdict == verdict


def test_what_diverged_has_kept_nothing():
    def values(case: Case) -> dict[str, object]:
        losses = [None, 3.0, math.inf, 1.0, 1.0, 1.0, 1.0]
        return {"gains": list(GAINS), "losses": losses, "ignorant": 2.0}

    assert judged(STUDY, values).numbers["kept, MLP, digits, batch"] == pytest.approx(4 / 7)


def test_what_never_trained_has_kept_nothing():
    def values(case: Case) -> dict[str, object]:
        return {"gains": list(GAINS), "losses": [None] * 7, "ignorant": 2.0}

    assert judged(STUDY, values).numbers["kept, MLP, digits, batch"] == 0


def test_end_to_end():
    for each in run_tiny(STUDY):
        expected = math.log(10) if each.case["model"] == "mlp" else 0.638  # 63 and 125 molecules
        assert each.values["ignorant"] == pytest.approx(expected, abs=1e-3)
