"""Placement: the rule, what it averages over, and a tiny run."""

from __future__ import annotations

import pytest

from graphnorms.studies.placement import STUDY
from graphnorms.studies.study import Case, Finding
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    run_tiny(STUDY)


def finding(after: float, outside: float, gin_outside: float) -> Finding:
    """Losses that the place at the activation and the one at the sum each multiply."""

    def values(case: Case) -> dict[str, float]:
        loss = 0.5 * (1 + 0.1 * (case["norm"] == "layer"))
        if case["activation"] == "after-activation":
            loss *= after * scatter(case)
        if case["residual"] == "before-norm":
            loss *= (outside if case["model"] == "mlp" else gin_outside) * scatter(case, 0.02)
        return {"mean": loss, "final": loss / 2}

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("after", "outside", "gin_outside", "verdict"),
    [
        (1.2, 1.3, 1.4, "confirmed"),
        (0.8, 1.3, 1.4, "not confirmed"),
        (1.2, 1.3, 0.7, "not confirmed"),
        (1.2, 1.3, 1.0, "inconclusive"),
    ],
)
def test_rule(after: float, outside: float, gin_outside: float, verdict: str) -> None:
    assert finding(after, outside, gin_outside).verdict == verdict


def test_what_is_not_compared_is_averaged_out() -> None:
    """The ratio of one place is exact, whatever the other multiplies."""
    numbers = finding(1.25, 3.0, 0.2).numbers
    for model in ("mlp", "gin"):
        key = f"BatchNorm, {model}, after over before the activation, mean loss"
        assert numbers[key] == pytest.approx(1.25, rel=1e-3)
