"""Landscape: a tiny run, and the rule that names each of three quantities."""

from __future__ import annotations

import pytest

from graphnorms.studies.claim_landscape import EIGENVALUE, QUANTITIES, RATE, STUDY, WALKED
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case, Finding, Values
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    measurements = run_tiny(STUDY)
    (chosen,) = where(measurements, norm="batch")
    size = len(chosen.values["plane"])
    assert chosen.values["plane"][size // 2][size // 2] > 0


def test_the_steps_are_those_of_the_source() -> None:
    assert min(WALKED) == pytest.approx(RATE / 2)
    assert max(WALKED) == pytest.approx(4 * RATE)


def finding(ratios: tuple[float, float, float], noise: float = 0.01) -> Finding:
    of = dict(zip(QUANTITIES, ratios, strict=True)) | {EIGENVALUE: 0.3}

    def values(case: Case) -> Values:
        batch = case["norm"] == "batch"
        wobble = scatter(case, noise) if batch else scatter(case)
        return {name: 2 * (ratio if batch else 1) * wobble for name, ratio in of.items()}

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("ratios", "noise", "verdict"),
    [
        ((0.1, 0.3, 0.9), 0.01, "confirmed"),
        ((0.1, 0.3, 1.5), 0.01, "not confirmed"),
        ((1.2, 0.3, 0.5), 0.01, "not confirmed"),
        ((0.1, 0.3, 1.0), 0.05, "inconclusive"),
        ((0.1, 0.3, 0.8), 0.6, "inconclusive"),
    ],
)
def test_rule(ratios: tuple[float, float, float], noise: float, verdict: str) -> None:
    assert finding(ratios, noise).verdict == verdict


def test_finding_names_each() -> None:
    found = finding((0.1, 1.0, 1.5), 0.05)
    _, undecided, against = QUANTITIES.values()
    assert "1 of the 3 intervals is as predicted." in found.statement
    assert f"Contrary to the prediction: {against}, 1.491" in found.statement
    assert f"Undecided, because the limit lies inside: {undecided}, 0.994" in found.statement
    assert {row[0] for row in found.tables[0].rows} > set(QUANTITIES.values())
