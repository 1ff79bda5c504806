"""Alpha: a tiny run, and the rule."""

from __future__ import annotations

import pytest

from graphnorms.studies.claim_alpha import EXACT, NEARLY, STUDY
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case, Settings, Values
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    measurements = run_tiny(STUDY)
    for each in where(measurements, shift="full"):
        assert {a for norm in each.values["alpha"] for a in norm} == {1.0}
    # Nothing leads away from the start where every graph is regular; otherwise α moves.
    for each in where(measurements, shift="learned"):
        moved = {a for norm in each.values["alpha"] for a in norm} != {1.0}
        assert moved == (each.case["set"] not in EXACT)
        assert ("new" in each.values) == (each.case["set"] in NEARLY)


def test_exact_sets_are_one_observation() -> None:
    cases = STUDY.cases(Settings())
    assert [case["seed"] for case in cases if case["set"] == "regular"] == [0, 0]
    assert len({case["seed"] for case in cases if case["set"] == "nearly regular"}) == 10


def test_with_data_it_is_about_imdb(tmp_path) -> None:
    sets = {case["set"] for case in STUDY.cases(Settings(data=tmp_path))}
    assert sets == {*EXACT, *NEARLY, "IMDBBINARY"}


@pytest.mark.parametrize(
    ("regular", "complete", "noise", "verdict"),
    [
        (0.4, 0.3, 0.01, "confirmed"),
        (0.4, 0.02, 0.01, "not confirmed"),
        (-0.1, 0.3, 0.01, "not confirmed"),
        (0.4, 0.1, 0.01, "inconclusive"),
        (0.4, 0.3, 0.5, "inconclusive"),
    ],
)
def test_rule(regular: float, complete: float, noise: float, verdict: str) -> None:
    gains = {"nearly regular": regular, "nearly complete": complete}

    def values(case: Case) -> Values:
        gain = gains.get(str(case["set"]), 0.0) + scatter(case, noise) - 1
        new = 0.5 + (gain if case["shift"] == "learned" else 0.0)
        return {"accuracy": 0.9, "new": new, "alpha": [[0.8, 1.1], [1.0, 1.0]]}

    finding = judged(STUDY, values)
    assert finding.verdict == verdict
    assert set(NEARLY) == set(gains)
    assert finding.numbers["mean of |α − 1|, IMDB-like"] == pytest.approx(0.3 / 4)
    (table,) = finding.tables
    assert ("regular", "training graphs", "0.90", "0.90", "0 by construction") in table.rows
