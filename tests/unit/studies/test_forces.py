"""Forces: the rule, the best rate, what is measured of a trained model, and a tiny run."""

from __future__ import annotations

import pytest

from graphnorms.studies.claim_forces import ERRORS, RATES, STUDY
from graphnorms.studies.force_properties import PROPERTIES
from graphnorms.studies.study import Case, Finding, Values
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    for each in run_tiny(STUDY):
        values = each.values
        norm = each.case["norm"]
        rates = RATES[:1] if norm == "graph" else RATES
        names = ("force", "energy", "validation", *PROPERTIES)
        assert set(values) == {f"{name} {rate:g}" for name in names for rate in rates}
        off = values[f"parts {RATES[0]:g}"]
        assert (off > 1e-6) == (norm == "graph")
        assert values[f"copies {RATES[0]:g}"] < 1e-10
        # A smooth force falls off towards the cutoff; nothing is divided by a small vector here.
        assert 0 <= values[f"edge {RATES[0]:g}"] < 5


def finding(layer: float, rms: float, energy: float = 0.8, noise: float = 0.01) -> Finding:
    """Errors as these shares of those without a norm, at the best rate."""
    share = {"none": 1.0, "layer": layer, "rms": rms, "graph": 1.0}

    def values(case: Case) -> Values:
        norm = str(case["norm"])
        wobble = scatter(case, noise) if norm == "layer" else scatter(case)
        force = 0.4 * share[norm] * wobble
        found = dict.fromkeys([f"{name} {rate:g}" for name in PROPERTIES for rate in RATES], 0.5)
        for rate, times in zip(RATES, (1, 2), strict=True):
            found |= {f"{what} {rate:g}": times * force for what in (*ERRORS, "validation")}
        if norm != "none":
            found["energy 0.003"] = 0.4 * energy * scatter(case)
        return found

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("layer", "rms", "energy", "noise", "verdict"),
    [
        (0.8, 0.7, 0.8, 0.01, "confirmed"),
        (0.8, 1.0, 0.8, 0.01, "not confirmed"),  # RMSNorm does not help
        (1.2, 0.7, 0.8, 0.01, "not confirmed"),  # LayerNorm hurts
        (0.8, 0.7, 1.1, 0.01, "not confirmed"),  # energies are worse
        (0.8, 0.7, 0.8, 0.60, "inconclusive"),
        (0.95, 0.7, 0.8, 0.01, "inconclusive"),
    ],
)
def test_rule(layer: float, rms: float, energy: float, noise: float, verdict: str) -> None:
    assert finding(layer, rms, energy, noise).verdict == verdict


def test_errors_are_those_of_the_best_rate() -> None:
    numbers = finding(0.8, 0.7).numbers
    assert numbers["force, painn, layer"] == pytest.approx(0.8)
    assert numbers["energy, equivariant, rms"] == pytest.approx(0.8)
