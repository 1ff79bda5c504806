"""Warm-up: the rule, what has diverged, and a tiny run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.studies.claim_warmup import MODELS, RATES, STUDY, WarmupTask, observe
from graphnorms.studies.study import Case, Settings
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def test_end_to_end() -> None:
    run_tiny(STUDY)


def a_task(diverges: bool) -> WarmupTask:
    """A parabola that Adam finds, or a loss that is not a number."""
    model = nn.Linear(1, 1)

    def loss() -> torch.Tensor:
        value = model.weight.square().sum()
        return value * float("nan") if diverges else value

    return model, loss, 1.0


def test_what_diverges_counts_as_a_guess() -> None:
    case = {"model": "graph", "place": "post-LN", "warmup": False, "seed": 0}
    found = observe(lambda: a_task(diverges=True), case, Settings(size="planted"))
    assert found["largest"] == RATES[0] / 2
    assert all(curve == [1.0] * 10 for curve in found["curves"].values())


@pytest.mark.parametrize("limit", [-1, 0, 2, 5])
def test_the_largest_rate_is_found_by_bisection(limit: int) -> None:
    """The first step of Adam is as long as the rate: one that is too long ends everything."""

    def make() -> WarmupTask:
        model = nn.Linear(1, 1, bias=False)
        places = []

        def loss() -> torch.Tensor:
            places.append(float(model.weight.detach()))
            first = abs(places[min(1, len(places) - 1)] - places[0])
            lost = first > (1.4 * RATES[limit] if limit >= 0 else 1e-9)
            return model.weight.sum() - float(model.weight.detach()) + float(lost)

        return model, loss, 1.0

    case = {"model": "sequence", "place": "post-LN", "warmup": False, "seed": 0}
    found = observe(make, case, Settings(size="planted"))
    assert found["largest"] == (RATES[limit] if limit >= 0 else RATES[0] / 2)


def test_a_guess_is_that_of_frequencies_and_of_the_mean() -> None:
    case = {"place": "post-LN", "warmup": False, "seed": 0}
    guesses = [
        STUDY.measure(case | {"model": model}, Settings(size="tiny"))["guess"] for model in MODELS
    ]
    assert guesses == [pytest.approx(3.25, abs=0.1), 1.0]


@pytest.mark.parametrize(
    ("post", "free", "graph_post", "noise", "verdict"),
    [
        (4.0, 1.0, 4.0, 0.1, "confirmed"),
        (4.0, 0.3, 4.0, 0.1, "not confirmed"),  # pre-LN needs it too
        (1.0, 1.0, 1.0, 0.1, "not confirmed"),  # post-LN does not
        (4.0, 1.0, 1.0, 0.1, "not confirmed"),  # not in graphs
        (4.0, 1.0, 1.5, 0.1, "inconclusive"),
        (4.0, 1.0, 4.0, 0.95, "inconclusive"),
    ],
)
def test_rule(post: float, free: float, graph_post: float, noise: float, verdict: str) -> None:
    def values(case: Case) -> dict[str, float]:
        need = post if case["model"] == "sequence" else graph_post
        if case["place"] == "pre-LN":
            return {"largest": free * need * scatter(case, noise)}
        return {"largest": need if case["warmup"] else 1.0}

    assert judged(STUDY, values).verdict == verdict
