"""Placement: what stands where, a tiny run, and the rule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.studies.claim_placement import PLACES, STUDY, Block, Shape, Stack
from graphnorms.studies.study import Case
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    run_tiny(STUDY)


def test_the_four_blocks() -> None:
    """Against torch's own layers, with a sum over all rows in the place of neighbours."""
    torch.manual_seed(0)
    h = torch.randn(5, 3)

    def mix(x: torch.Tensor) -> torch.Tensor:
        return x + x.sum(0)

    for norm, places in PLACES.items():
        for place in places:
            block = Block(norm, place, 3)
            n = nn.BatchNorm1d(3) if norm == "batch" else nn.LayerNorm(3)
            w, v = block.w, block.v
            expected = {
                "before": lambda n=n, w=w: h + n(w(mix(h))).relu(),
                "after": lambda n=n, w=w: h + n(w(mix(h)).relu()),
                "inside": lambda n=n, w=w, v=v: h + v(w(mix(n(h))).relu()),
                "outside": lambda n=n, w=w, v=v: n(h + v(w(mix(h)).relu())),
            }[place]()
            torch.testing.assert_close(block(h, mix), expected)


def test_a_last_norm_stands_behind_what_is_normalized_inside_only() -> None:
    for norm, places in PLACES.items():
        for place in places:
            stack = Stack(Shape(4, 2, blocks=1, channels=3), norm, place, seed=0)
            assert bool(list(stack.last_norm.parameters())) == (place == "inside")


@pytest.mark.parametrize(
    ("batch", "layer", "noise", "verdict"),
    [
        (1.3, 1.2, 0.01, "confirmed"),
        (0.9, 1.2, 0.01, "not confirmed"),
        (1.3, 0.9, 0.01, "not confirmed"),
        (1.3, 1.0, 0.01, "not confirmed"),  # no disadvantage
        (1.3, 1.05, 0.01, "inconclusive"),
        (1.3, 1.2, 0.9, "inconclusive"),
    ],
)
def test_rule(batch: float, layer: float, noise: float, verdict: str) -> None:
    def values(case: Case) -> dict[str, float]:
        norm = str(case["norm"])
        against = case["place"] == PLACES[norm][1] and case["model"] == "gin"
        penalty = {"batch": batch, "layer": layer}[norm] if against else 1.0
        if case["model"] == "mlp" and case["place"] == PLACES[norm][1]:
            penalty = 1.5
        wobble = scatter(case, noise) if against else 1.0
        return {"mean": penalty * wobble, "final": 1.0}

    assert judged(STUDY, values).verdict == verdict
