"""Warm-up: the rule, what has diverged, and a tiny run."""

from __future__ import annotations

import math

import pytest

from graphnorms.studies.study import Case, Settings
from graphnorms.studies.warmup import STUDY
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    run_tiny(STUDY)


@pytest.mark.parametrize(("model", "guess"), [("sequence", math.log(96)), ("graph", 1.0)])
def test_what_diverges_counts_as_a_guess(model: str, guess: float) -> None:
    case = {"model": model, "place": "post-LN", "warmup": False, "rate": 1e30, "seed": 0}
    assert STUDY.measure(case, Settings(size="tiny"))["loss"] == pytest.approx(guess)


@pytest.mark.parametrize(
    ("post", "pre", "graph_post", "verdict"),
    [
        (1.3, 1.0, 1.3, "confirmed"),
        (1.3, 1.3, 1.3, "not confirmed"),  # pre-LN needs it too
        (1.0, 1.0, 1.0, "not confirmed"),  # post-LN does not
        (1.3, 1.0, 1.0, "not confirmed"),  # not in graphs
        (1.3, 1.0, 1.1, "inconclusive"),
    ],
)
def test_rule(post: float, pre: float, graph_post: float, verdict: str) -> None:
    def values(case: Case) -> dict[str, float]:
        need = pre
        if case["place"] == "post-LN":
            need = post if case["model"] == "sequence" else graph_post
        loss = 2.0 if case["warmup"] else 2.0 * need * scatter(case)
        return {"loss": loss * float(case["rate"])}

    found = judged(STUDY, values)
    assert found.verdict == verdict
    assert found.numbers["sequence, pre-LN"] == pytest.approx(pre, rel=0.01)
