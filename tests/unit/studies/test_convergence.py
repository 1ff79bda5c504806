"""Convergence: the rule, how the MLP gets its rate, parts of sets, and a tiny run."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.models import derive_seed
from graphnorms.studies.claim_convergence import RATES, STUDY, Items, observe
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case, Finding, Settings
from graphnorms.studies.study_data import graph_set
from tests.unit.studies.hand_made import judged, run_tiny, scatter


def finding(noise: float = 0.002, on: str = "GCN REDDIT-like", **better: float) -> Finding:
    """As if norms had these mean accuracies, changed in one model on one set."""
    usual = {"none": 0.7, "batch": 0.8, "layer": 0.75, "instance": 0.9, "graph": 0.95}

    def values(case: Case) -> dict[str, object]:
        here = f"{str(case['model']).upper()} {case['data']}" == on
        means = usual | (better if here else {})
        # Only GraphNorm varies, for differences to.
        vary = scatter(case, noise) if case["norm"] == "graph" and here else 1.0
        mean = means[str(case["norm"])] * vary
        return {"steps": [2, 4], "accuracy": [mean - 0.01, mean + 0.01], "mean": mean, "rate": 0.1}

    return judged(STUDY, values)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({}, "confirmed"),
        ({"instance": 0.97}, "not confirmed"),  # faster than GraphNorm
        ({"instance": 0.95}, "not confirmed"),  # as fast
        ({"instance": 0.94}, "inconclusive"),
        ({"instance": 0.97, "on": "GCN nci5k"}, "confirmed"),  # of which nothing is claimed
        ({"batch": 0.97, "on": "GCN nci5k"}, "not confirmed"),
        ({"none": 0.85, "on": "MLP digits"}, "not confirmed"),  # faster than BatchNorm
        ({"noise": 0.1}, "inconclusive"),
    ],
)
def test_rule(given, verdict):
    assert finding(**given).verdict == verdict


def test_one_of_many_intervals_below_the_limit_does_not_refute():
    """Of 23 intervals of 95% one may lie below it by chance; those that refute are wider."""
    found = finding(noise=0.02, instance=0.96)
    high = found.numbers["mean accuracy, GCN, REDDIT-like, graph − instance, high"]
    assert high is not None
    assert high < 0.01
    assert found.verdict == "inconclusive"
    assert finding(noise=0.005, instance=0.96).verdict == "not confirmed"


def test_the_closest_is_named():
    found = finding()
    assert "in 23 of 23 comparisons" in found.statement
    assert "over InstanceNorm, 0.050" in found.statement
    assert found.numbers["last accuracy, GCN, nci5k, layer"] == pytest.approx(0.76)


def task(seen: list[int]) -> Items:
    """A linear classifier of separable items, that notes its seeds."""
    y = torch.arange(40) % 2
    x = nn.functional.one_hot(y, 2) + 0.1 * torch.randn(
        40, 2, generator=torch.Generator().manual_seed(0)
    )

    def make(seed: int):
        seen.append(seed)
        model = nn.Linear(2, 2)
        nn.init.constant_(model.weight, 0.0)
        return model, lambda ids: model(x[ids])

    return Items(make, y)


def test_the_rate_of_an_mlp_is_chosen_with_another_seed():
    seen: list[int] = []
    case: Case = {"model": "mlp", "data": "digits", "norm": "none", "seed": 3}
    found = observe(task(seen), case, Settings(size="tiny"))
    assert seen == [derive_seed(3, "rate")] * len(RATES) + [3]
    assert found["rate"] in RATES
    seen.clear()
    assert observe(task(seen), case | {"model": "gin"}, Settings(size="tiny"))["rate"] == 0.01
    assert seen == [3]


def test_with_data_it_is_about_larger_sets(tmp_path):
    cases = STUDY.cases(Settings(data=tmp_path))
    assert {case["data"] for case in cases} == {"PROTEINS", "IMDBBINARY", "REDDIT-BINARY", "digits"}
    with pytest.raises(ValueError, match=r"PROTEINS\.txt: no such file; --data is the folder"):
        graph_set("PROTEINS", tmp_path)


def test_end_to_end():
    measurements = run_tiny(STUDY)
    assert len(where(measurements, model="gin", data="IMDB-like")) == 5
    for each in measurements:
        assert len(each.values["accuracy"]) == len(each.values["steps"]) == 5
        assert each.values["steps"][-1] == 10
