"""Learning rate: the rule, and a tiny run."""

from __future__ import annotations

import pytest

from graphnorms.studies.learning_rate import RATES, STUDY
from graphnorms.studies.study import Case, Finding
from tests.unit.studies.hand_made import judged, run_tiny

IGNORANT = 2.0


def finding(mlp: int, gin: int, *, noise: int = 0, none: int = 6) -> Finding:
    """As if BatchNorm allowed so many doublings of the rate more than none, give or take some."""

    def values(case: Case) -> dict[str, object]:
        more = {"batch": mlp if case["model"] == "mlp" else gin}.get(str(case["norm"]), 0)
        last = none + more + noise * (int(case["seed"]) % 3 - 1) * (case["norm"] == "batch")
        # Rates too small for the budget do not train either; too large ones diverge, or worse.
        losses = [
            1.95 if place < 2 else 0.5 if place <= last else 3.0 if place == last + 1 else None
            for place in range(len(RATES))
        ]
        return {"rates": list(RATES), "losses": losses, "ignorant": IGNORANT}

    return judged(STUDY, values)


@pytest.mark.parametrize(("given", "verdict"), [
    ({"mlp": 5, "gin": 3}, "confirmed"),
    ({"mlp": 5, "gin": 2}, "not confirmed"),
    ({"mlp": 0, "gin": 5}, "not confirmed"),
    ({"mlp": 5, "gin": 3, "noise": 2}, "inconclusive"),
    ({"mlp": 0, "gin": 0, "none": 1}, "inconclusive"),  # nothing trained at all
])  # fmt: skip
def test_rule(given, verdict):
    assert finding(**given).verdict == verdict


def test_the_largest_rate_that_trains_counts():
    numbers = finding(mlp=5, gin=3).numbers
    assert numbers["largest stable rate, MLP, digits, none"] == pytest.approx(RATES[6])
    assert numbers["largest stable rate, MLP, digits, batch / none"] == pytest.approx(32)


def test_end_to_end():
    assert run_tiny(STUDY)
