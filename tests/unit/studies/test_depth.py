"""Depth: the rule, the generated graph, and a tiny run."""

from __future__ import annotations

import pytest
import torch

from graphnorms.studies import claim_depth
from graphnorms.studies.claim_depth import STUDY
from graphnorms.studies.measured_values import by_seed
from graphnorms.studies.study import Case
from tests.unit.studies.hand_made import judged, run_tiny


def test_end_to_end() -> None:
    """Energies are below the largest eigenvalue, and GraphNorm begins as BatchNorm."""
    measurements = run_tiny(STUDY)
    assert all(0 < one.values["energy"] < 2 for one in measurements)
    for depth_ in (2, 8):
        (batch,), (graph,) = (
            by_seed(measurements, "energy", norm=norm, depth=depth_) for norm in ("batch", "graph")
        )
        assert graph == pytest.approx(batch, rel=1e-9)


def test_communities() -> None:
    """Degrees are as said, within five standard deviations of their means."""
    nodes = claim_depth._communities(250, torch.Generator().manual_seed(0))
    target = torch.repeat_interleave(nodes.adjacency.in_degree)
    inside = nodes.y[target] == nodes.y[nodes.adjacency.index]
    for edges, expected in ((inside.sum(), 5 * 249 / 250), ((~inside).sum(), 3)):
        assert float(edges) / 1000 == pytest.approx(expected, abs=5 * (2 * expected / 1000) ** 0.5)
    assert nodes.adjacency.symmetric
    assert nodes.y.bincount().tolist() == [250] * 4


@pytest.mark.parametrize(
    ("left", "kept", "gain", "verdict"),
    [
        (1e-6, 0.8, 0.30, "confirmed"),
        (0.5, 0.8, 0.30, "not confirmed"),  # nothing was smoothed away
        (1e-6, 0.01, 0.30, "not confirmed"),  # a norm does not keep it
        (1e-6, 0.8, 0.02, "not confirmed"),  # and gains nothing
        (1e-6, 0.8, 0.10, "inconclusive"),
    ],
)
def test_rule(left: float, kept: float, gain: float, verdict: str) -> None:
    """PairNorm is the one norm that differs; of GraphNorm nothing is asked."""
    share = {"none": left, "batch": 0.9, "graph": 0.01, "pair": kept}

    def values(case: Case) -> dict[str, object]:
        norm, deep = str(case["norm"]), int(case["depth"]) > 2
        wobble = 0.01 * (int(case["seed"]) % 3 - 1)
        more = {"none": 0.0, "graph": 0.0, "pair": gain + wobble}.get(norm, 0.4 + wobble)
        return {
            "data": "none",
            "energy": 0.3 * (share[norm] * (1 + wobble) if deep else 1.0),
            "accuracy": 0.4 + (more if deep else 0.0),
        }

    assert judged(STUDY, values).verdict == verdict
