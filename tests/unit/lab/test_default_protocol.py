"""The protocol that is meant when none is named, and the runs that it leaves alone."""

from __future__ import annotations

import pytest
import torch

from graphnorms.data import GraphSet, Task, random_graphs
from graphnorms.lab.compare import prepare
from graphnorms.lab.options import Options
from graphnorms.lab.plan_sentences import plan_lines
from graphnorms.lab.run import Run


@pytest.fixture(scope="module")
def graphs() -> GraphSet:
    """Graphs of two classes, without a split."""
    found = random_graphs(40, seed=0)
    return found.with_targets(torch.arange(40) % 2, Task(kind="classification", targets=("a", "b")))


@pytest.fixture(scope="module")
def divided(graphs) -> GraphSet:
    """The same graphs with a split."""
    return GraphSet(
        name="divided",
        x=graphs.x,
        ptr=graphs.ptr,
        edge_ptr=graphs.edge_ptr,
        edge_index=graphs.edge_index,
        y=graphs.y,
        task=graphs.task,
        features=graphs.features,
        split=(torch.arange(40) // 2 % 3).to(torch.int8),
    )


def begun(dataset: GraphSet, **choices):
    """Plan a comparison, and write the folder of its run without a trial."""
    plan, config = prepare(dataset, Options(norms="none,graph", **choices))
    with Run(plan.folder, config):
        return plan


def test_a_run_of_another_protocol_is_resumed_where_it_is_the_only_one(
    divided, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folds = begun(divided, protocol="nested", folds=3)
    resumed, _ = prepare(divided, Options(resume=True))
    assert resumed.folder == folds.folder
    assert resumed.settings == folds.settings
    split = begun(divided)
    assert split.settings.protocol == "split"
    assert split.folder != folds.folder
    assert prepare(divided, Options(resume=True))[0].settings == split.settings
    asked, _ = prepare(divided, Options(resume=True, protocol="nested"))
    assert asked.settings == folds.settings


def test_a_run_is_continued_with_its_protocol_wherever_it_lies(graphs, divided, tmp_path):
    for place, (dataset, protocol) in enumerate(((divided, "nested"), (graphs, "split"))):
        out = tmp_path / str(place)
        first = begun(dataset, protocol=protocol, out=out)
        resumed, _ = prepare(dataset, Options(resume=True, out=out))
        assert resumed.settings == first.settings
        assert resumed.command == first.command


def test_the_plan_says_where_the_protocol_comes_from(graphs, divided):
    def hints(dataset: GraphSet, **choices) -> int:
        plan, _ = prepare(dataset, Options(**choices))
        return "\n".join(plan_lines(plan)).count("--protocol nested")

    assert hints(divided) == 1
    assert hints(divided, protocol="split") == hints(divided, split="given") == 0
    assert hints(graphs, split="random") == hints(graphs) == 0
