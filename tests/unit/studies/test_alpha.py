"""Alpha: a tiny run, and the rule."""

from __future__ import annotations

import pytest

from graphnorms.studies.alpha import DECIDES, KINDS, STUDY
from graphnorms.studies.study import Case, Values, where
from tests.unit.studies.hand_made import judged, run_tiny


def test_end_to_end() -> None:
    measurements = run_tiny(STUDY)
    for each in where(measurements, shift="full"):
        assert {a for norm in each.values["alpha"] for a in norm} == {1.0}
    # Nothing leads away from the start where every graph is regular; otherwise α moves.
    for each in where(measurements, shift="learned"):
        moved = {a for norm in each.values["alpha"] for a in norm} != {1.0}
        assert moved == (each.case["thinned"] > 0)


@pytest.mark.parametrize(
    ("regular", "complete", "noise", "verdict"),
    [
        (0.4, 0.3, 0.01, "confirmed"),
        (0.4, 0.02, 0.01, "not confirmed"),
        (-0.1, 0.3, 0.01, "not confirmed"),
        (0.4, 0.1, 0.01, "inconclusive"),
        (0.4, 0.3, 0.35, "inconclusive"),
    ],
)
def test_rule(regular: float, complete: float, noise: float, verdict: str) -> None:
    gains = {"regular": regular, "complete": complete}

    def values(case: Case) -> Values:
        gain = gains.get(str(case["set"]), 0.0) if case["thinned"] == DECIDES else 0.0
        wobble = noise * (int(case["seed"]) % 3 - 1)
        accuracy = 0.5 + (gain + wobble if case["shift"] == "learned" else 0.0)
        return {"accuracy": accuracy, "alpha": [[0.8, 1.1], [1.0, 1.0]]}

    finding = judged(STUDY, values)
    assert finding.verdict == verdict
    assert set(KINDS) == set(gains)
    assert finding.numbers["mean of |α − 1|, MUTAG"] == pytest.approx(0.3 / 4)
