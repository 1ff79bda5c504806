"""Convergence: the rule, and a tiny run."""

from __future__ import annotations

import pytest

from graphnorms.studies.convergence import STUDY
from graphnorms.studies.material import graphs
from graphnorms.studies.study import Case, Finding, Settings
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def finding(noise: float = 0.002, **better: float) -> Finding:
    """As if norms had these mean accuracies in every model."""
    means = {"none": 0.7, "batch": 0.8, "layer": 0.75, "instance": 0.9, "graph": 0.95} | better

    def values(case: Case) -> dict[str, object]:
        # Only GraphNorm varies, for differences to.
        vary = scatter(case, noise) if case["norm"] == "graph" else 1.0
        mean = means[str(case["norm"])] * vary
        return {"steps": [2, 4], "accuracy": [mean - 0.01, mean + 0.01]}

    return judged(STUDY, values)


@pytest.mark.parametrize(("given", "verdict"), [
    ({}, "confirmed"),
    ({"instance": 0.97}, "not confirmed"),  # faster than GraphNorm
    ({"none": 0.85}, "not confirmed"),  # faster than BatchNorm, in the MLP
    ({"instance": 0.95}, "inconclusive"),
    ({"noise": 0.1}, "inconclusive"),
])  # fmt: skip
def test_rule(given, verdict):
    assert finding(**given).verdict == verdict


def test_the_closest_is_named():
    found = finding()
    assert "graph less instance, 0.050" in found.statement
    assert found.numbers["accuracy at step 4, GCN, layer"] == pytest.approx(0.76)


def test_with_data_it_is_about_proteins(tmp_path):
    cases = STUDY.cases(Settings(data=tmp_path))
    assert {case["data"] for case in cases} == {"PROTEINS", "digits"}
    with pytest.raises(ValueError, match=r"PROTEINS\.txt: no such file; --data is the folder"):
        graphs("PROTEINS", tmp_path)


def test_end_to_end():
    run_tiny(STUDY)
