"""Mean information: what the propositions say exactly, and the rule."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from graphnorms.data.synthetic import complete_graphs, regular_graphs
from graphnorms.studies.claim_mean_information import ARMS, NEARLY, STUDY
from graphnorms.studies.measured_values import where
from graphnorms.studies.study import Case
from tests.unit.studies.hand_made import judged, run_tiny


def test_end_to_end() -> None:
    measurements = run_tiny(STUDY)
    # Four classes, equally frequent: InstanceNorm makes all graphs equal.
    for each in where(measurements, norm="instance"):
        if each.case["set"] == NEARLY:
            continue
        assert each.values["accuracy"] == each.values["new"] == 0.25
        assert each.values["before"] == 1.0
        assert each.values["behind"] == 0.25
    # GraphNorm starts as InstanceNorm, and no gradient leads away from it.
    for each in where(measurements, norm="graph", alpha=1.0):
        if each.case["set"] != NEARLY:
            assert set(each.values["curve"]) == {0.25}


@pytest.mark.parametrize("make", [regular_graphs, complete_graphs])
def test_graphs_are_regular(make: Any) -> None:
    given = make(16, "degree", seed=3)
    assert given.symmetric
    assert given.class_counts == (4, 4, 4, 4)
    for number in range(16):
        batch = given.batch(torch.tensor([number]))
        degree = batch.adjacency.in_degree
        assert degree.unique().numel() == 1
        sizes = {3: 6, 4: 9, 5: 12, 6: 15}
        expected = 3 + int(batch.y)
        assert int(degree[0]) == (expected if make is regular_graphs else sizes[expected] - 1)
        source = batch.adjacency.index.view(-1, int(degree[0]))
        assert all(len(set(row)) == len(row) for row in source.tolist())  # no parallel edges
        assert not (source == torch.arange(len(source)).unsqueeze(1)).any()  # no loops


@pytest.mark.parametrize("make", [regular_graphs, complete_graphs])
def test_thinned_graphs_lack_a_fifth(make: Any) -> None:
    whole, half = make(16, "constant", seed=3), make(16, "constant", seed=3, thinned=0.5)
    for number in range(16):
        edges = [g.batch(torch.tensor([number])).adjacency.num_edges // 2 for g in (whole, half)]
        assert edges[1] == edges[0] - (round(edges[0] / 5) if number < 8 else 0)


def test_nearly_regular_graphs_lack_an_edge_at_least() -> None:
    given, whole = (
        regular_graphs(16, "constant", seed=3, thinned=thinned, removed=0.05)
        for thinned in (1.0, 0.0)
    )
    for number in range(16):
        few, all_ = (
            g.batch(torch.tensor([number])).adjacency.num_edges // 2 for g in (given, whole)
        )
        assert few == all_ - max(1, round(0.05 * all_))


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "confirmed"),
        ({"InstanceNorm": 0.6}, "not confirmed"),  # it sees the mean
        ({"none": 0.8}, "inconclusive"),  # no network sees it
        ({"BatchNorm": 0.8}, "inconclusive"),
        ({"InstanceNorm": 0.295}, "inconclusive"),
        ({"none": 0.945}, "confirmed"),  # some seed tells all: 0.955
        ({"GraphNorm": 0.25, "GraphNorm from α 0.9": 0.25}, "confirmed"),  # beside the rule
        ({"new": 0.05}, "not confirmed"),  # no cost where graphs are nearly regular
        ({"new": 0.1}, "inconclusive"),
    ],
)
def test_rule(changed: dict[str, float], verdict: str) -> None:
    usual = dict.fromkeys(ARMS, 0.98) | {"InstanceNorm": 0.25, "new": 0.4} | changed
    names = {where: arm for arm, where in ARMS.items()}

    def values(case: Case) -> dict[str, float]:
        arm = names[str(case["norm"]), float(case["alpha"])]
        wobble = 0.01 * (int(case["seed"]) % 3 - 1)
        new = 0.9 - usual["new"] + wobble if arm == "InstanceNorm" else 0.9
        return {"accuracy": usual[arm] + wobble, "new": new}

    assert judged(STUDY, values).verdict == verdict
