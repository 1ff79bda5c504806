"""Advice on planted sets with known facts, and the table of rules."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from graphnorms.data import GraphSet
from graphnorms.data.readers.raw_graphs import RawGraphs
from graphnorms.data.readers.read_options import Reading
from graphnorms.lab.choice_rules import RULES, VERDICTS, choices, chosen
from graphnorms.lab.choosing import Advice, advise
from graphnorms.lab.options import Options

STUDIES = Path(__file__).parents[3] / "docs" / "studies"
QUICK = {"folds": 3, "epochs": 2, "hidden": 8, "workers": 1, "protocol": "nested"}


def planted(
    sizes: list[int], edges: str, *, level: str = "graph", constant: bool = True
) -> GraphSet:
    """Rings or complete graphs; the class is the parity of the number."""
    ptr = np.concatenate(([0], np.cumsum(sizes)))
    source, target = [], []
    for first, size in zip(ptr, sizes, strict=False):
        for i in range(size):
            others = [j for j in range(size) if j != i]
            if edges == "ring":
                others = sorted({(i + 1) % size, (i - 1) % size} - {i})
            source += [first + i] * len(others)
            target += [first + j for j in others]
    nodes = int(ptr[-1])
    x = np.ones((nodes, 2)) if constant else np.random.default_rng(0).normal(size=(nodes, 2))
    x[:, 1] = np.repeat(np.arange(len(sizes)) % 3, sizes)
    if not constant:
        x[:, 1] += np.arange(nodes) % 4
    items = nodes if level == "node" else len(sizes)
    return RawGraphs(
        name="planted",
        ptr=ptr,
        source=np.array(source),
        target=np.array(target),
        y=np.arange(items) % 2,
        attributes=x.astype(np.float32),
        level=level,
    ).pack(Reading(features="attributes"))


def advice(graphs: GraphSet, **options: object) -> tuple[Advice, dict[str, set[str]]]:
    found = advise(graphs, Options(**{**QUICK, **options}))
    rules = {each.norm: {ground.rule for ground in each.grounds} for each in found.choices}
    return found, rules


def test_regular_graphs_of_constant_features_leave_centering_out() -> None:
    found, rules = advice(planted([4, 5, 6] * 10, "ring"))
    assert found.facts["regular"] == found.facts["constant_features"] == 1.0
    assert chosen(found.choices) == ["none", "batch", "layer"]
    assert "alike" in rules["instance"] & rules["graph"]
    command = shlex.split(json.loads(json.dumps(found.to_dict()))["command"])
    assert command[command.index("--norms") + 1] == "none,batch,layer"
    assert found.plan.settings.norms == ("none", "batch", "layer")
    assert found.expected.seconds > 0


def test_graphs_of_one_node_and_complete_ones() -> None:
    _, rules = advice(planted([1, 1, 1, 4] * 9, "complete", constant=False))
    assert {"one-node", "complete"} <= rules["instance"]
    assert "complete-learned" in rules["graph"]


def test_a_single_graph_has_batch_statistics_only_once() -> None:
    found, rules = advice(planted([40], "ring", level="node", constant=False))
    assert found.facts["graphs"] == 1
    assert "instance" not in chosen(found.choices)
    assert "single-graph" in rules["instance"]
    assert "single-graph" not in rules["graph"]
    assert {"batch", "layer", "graph"} <= set(chosen(found.choices))


def test_deep_models_add_a_norm_unless_it_leaves_nothing() -> None:
    deep = {"layers": 16, "graphs": 100.0, "regular_and_constant": 0.0, "complete": 0.0}
    assert "pair" in chosen(choices(deep))
    assert "pair" not in chosen(choices({**deep, "layers": 4}))
    assert "pair" not in chosen(choices({**deep, "complete": 0.9}))


def test_unknown_facts_are_no_reason_and_the_baseline_stays() -> None:
    found = choices({})
    assert chosen(found) == ["none", "batch", "layer", "instance", "graph"]
    assert not any(each.grounds for each in found)
    failed = {"steps": 16.0}
    of_norms = {norm: {"failed": 1.0} for norm in ("none", "batch")}
    assert chosen(choices(failed, of_norms)) == ["none", "layer", "instance", "graph"]


def test_batches_are_judged_by_their_size_and_noise() -> None:
    def about(**facts: float) -> set[str]:
        found = {each.norm: each for each in choices({"graphs": 90.0, **facts})}
        return {ground.rule for ground in found["batch"].grounds}

    assert about(batch_size=4) == {"small-batches"}
    assert about(batch_size=64, batch_noise=0.05, design_effect=8.0) == {"noisy-batches"}
    assert about(graphs=1.0, batch_size=1, batch_noise=0.05, design_effect=8.0) == set()


def test_every_rule_has_its_source_and_facts() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        known = {name: low for name, low, _ in rule.when}
        assert rule.holds(known)
        assert rule.source in VERDICTS or rule.source.startswith(("probe: ", "by construction"))


@pytest.mark.skipif(not STUDIES.exists(), reason="the tests stand without the docs")
@pytest.mark.parametrize("name", VERDICTS)
def test_verdicts_are_those_of_the_studies(name: str) -> None:
    result = json.loads((STUDIES / name / "result.json").read_text(encoding="utf-8"))
    assert result["finding"]["verdict"].lower() == VERDICTS[name]
