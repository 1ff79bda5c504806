"""Every kind of task through `compare`, end to end, on tiny data."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from graphnorms.data import GraphSet, SplitConfig, Task, load_dataset, random_graphs, split_items
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import open_comparison
from graphnorms.training import load_model, score

OWN_PAGE = ("numbers on a given split", "nodes of many graphs", "their precision")
"""Cases whose report is made, which takes a second; other pages are like these."""

SMALL = {"norms": "graph", "epochs": 2, "learning_rate": (0.003, 0.01), "hidden": 8, "layers": 2}


def changed(graphs: GraphSet, y: torch.Tensor, task: Task, **changes) -> GraphSet:
    """The same graphs with other targets."""
    return GraphSet(
        name=changes.pop("name", graphs.name),
        x=graphs.x,
        ptr=graphs.ptr,
        edge_ptr=graphs.edge_ptr,
        edge_index=graphs.edge_index,
        features=graphs.features,
        y=y,
        task=task,
        **changes,
    )


def molecules() -> GraphSet:
    return load_dataset("MUTAG").subset(range(40))


def questions() -> GraphSet:
    """Three questions of yes or no, a quarter of the answers missing, and two graphs with none."""
    graphs = random_graphs(60, mean_nodes=8, num_features=5, seed=1)
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(0, 2, (60, 3), generator=draw).float()
    y[torch.rand(60, 3, generator=draw) < 0.25] = torch.nan
    y[[3, 7]] = torch.nan
    return changed(graphs, y, Task(kind="binary", targets=("a", "b", "c")), name="questions")


def numbers() -> GraphSet:
    """Of each part of nci5k's split some."""
    graphs = load_dataset("nci5k")
    parts = [(graphs.split == part).nonzero()[:20, 0] for part in range(3)]
    return graphs.subset(torch.cat(parts).sort().values)


def nodes_of(number: int) -> Callable[[], GraphSet]:
    def make() -> GraphSet:
        graphs = random_graphs(number, mean_nodes=120 if number == 1 else 12, num_features=5)
        y = (graphs.x.argmax(1) > 0).long()  # the element decides
        y[torch.arange(0, graphs.num_nodes, 7)] = -1
        task = Task(kind="classification", level="node", targets=("carbon", "other"))
        split = torch.arange(graphs.num_nodes).remainder(3).to(torch.int8)
        return changed(graphs, y, task, split=split, name=f"nodes-{number}")

    return make


CASES = {
    "classes of graphs": (molecules, {"folds": 3}, "gin", "accuracy"),
    "classes of graphs, paper": (molecules, {"folds": 3, "protocol": "paper"}, "gin", "accuracy"),
    "questions with answers missing": (questions, {"folds": 3}, "gin", "roc_auc"),
    "their precision": (
        questions,
        {"protocol": "split", "runs": 3, "metric": "average_precision"},
        "gin",
        "average_precision",
    ),
    "numbers on a given split": (numbers, {"protocol": "split", "runs": 3}, "gine", "mae"),
    "numbers in folds": (numbers, {"folds": 3, "model": "gcn", "metric": "rmse"}, "gcn", "rmse"),
    "nodes of one graph": (nodes_of(1), {"folds": 3}, "gcn", "accuracy"),
    "nodes of one graph with masks": (
        nodes_of(1),
        {"protocol": "split", "runs": 3},
        "gcn",
        "accuracy",
    ),
    "nodes of many graphs": (nodes_of(12), {"folds": 3}, "gcn", "accuracy"),
    "nodes of many graphs with masks": (
        nodes_of(12),
        {"protocol": "split", "runs": 3, "model": "gin"},
        "gin",
        "accuracy",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_task_from_data_to_model(case, in_this_process, tmp_path, request):
    make, choices, model, metric = CASES[case]
    if case not in OWN_PAGE:
        request.getfixturevalue("stub_page")
    graphs = make()
    found = compare(graphs, **SMALL, **choices, out=tmp_path / "run")
    assert [record.reason for record in found.records if record.status != "done"] == []
    assert len(in_this_process) == len(found.records) == found.planned
    assert (found.settings.model, found.settings.metric) == (model, metric)

    # A verdict, in words and as data.
    assert {row.norm for row in found.verdict.rows} == {"none", "graph"}
    assert all(row.score is not None for row in found.verdict.rows)
    assert max(map(len, found.table().splitlines())) <= 80
    if found.settings.protocol == "paper":
        assert "optimistic" in found.table().lower()
    again = open_comparison(found.folder)
    assert json.dumps(again.to_dict(), allow_nan=False) == json.dumps(found.to_dict())
    page = (found.folder / "report.html").read_text(encoding="utf-8")
    assert case not in OWN_PAGE or page.lstrip().lower().startswith("<!doctype html>")

    # The model of the best trial predicts what its record says.
    predictor = load_model(found.export(tmp_path / "model", norm="graph"))
    record = next(record for record in found.records if record.key == predictor.config.key)
    held_out = "validation" if found.settings.protocol == "paper" else "test"
    items = getattr(split_items(graphs, SplitConfig(**record.config["split"])), held_out)
    assert record.counts[f"{held_out}_items"] == len(items)
    with torch.no_grad():
        outputs = predictor(graphs.batch(torch.arange(len(graphs))))[items]
    expected = record.outcome[f"{held_out}_score"]
    if found.settings.protocol == "paper":
        expected = max(record.history["validation_score"])
    value = score(metric, graphs.task.kind, outputs, graphs.y[items])
    assert value == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_scores_are_those_of_the_test_items(tmp_path):
    """Targets of the test items that are turned round turn the scores round, and nothing else."""
    graphs = load_dataset("MUTAG").subset(range(40))
    part = torch.arange(40).remainder(3).to(torch.int8)
    scores = []
    for y in (graphs.y, torch.where(part == 2, 1 - graphs.y, graphs.y)):
        given = changed(graphs, y, graphs.task, split=part)
        found = compare(given, **SMALL, protocol="split", runs=2, out=tmp_path / str(len(scores)))
        finals = [record for record in found.records if record.config["stage"] == "final"]
        scores.append([record.outcome["test_score"] for record in finals])
        selection = [record.history for record in found.records]
        scores.append(selection)
    assert scores[1] == scores[3], "nothing but the test score knows the test items"
    assert [1 - value for value in scores[0]] == pytest.approx(scores[2])
    assert scores[0] != scores[2]


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_worker_processes_give_the_same_for_nodes(tmp_path, monkeypatch):
    """Packed data of another kind than the molecules of the other tests."""
    graphs = nodes_of(12)()
    choices = SMALL | {"protocol": "split", "runs": 1, "learning_rate": 0.01}
    here = compare(graphs, **choices, out=tmp_path / "here")
    monkeypatch.undo()
    monkeypatch.setattr("graphnorms.lab.comparison.Comparison.report", lambda self: None)
    there = compare(graphs, **choices, workers=1, out=tmp_path / "there")
    assert [r.without_timing() for r in here.records] == [r.without_timing() for r in there.records]
