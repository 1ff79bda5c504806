"""Comparisons of trials that user code trains, from the function to the page."""

from __future__ import annotations

import ast
import difflib
import html
import json
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from graphnorms import cli
from graphnorms.data import load_dataset, random_graphs, split_items
from graphnorms.data.pyg_list import to_pyg
from graphnorms.errors import GraphnormsError
from graphnorms.lab import duration
from graphnorms.lab.compare import compare, prepare
from graphnorms.lab.comparison import open_comparison
from graphnorms.lab.options import Options
from graphnorms.lab.plan_sentences import plan_lines
from graphnorms.lab.sentences import sentences
from graphnorms.lab.trial_data import load_trial_source

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # importing PyG calls what torch has deprecated
    from torch_geometric.loader import DataLoader

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {"norms": "none,graph", "folds": 2, "workers": 1}
pytestmark = pytest.mark.usefixtures("stub_page", "in_this_process")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(norm, split, seed, report, learning_rate):
    """A linear model on the sums of the features, trained for two epochs."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"norm": norm(7), "head": nn.Linear(7, 2)})
    assert set(split.train.tolist()).isdisjoint(split.test.tolist())
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    sums = [data.x.sum(0) for data in split.data]
    report(0, model=model)
    for epoch in range(2):
        for ids in DataLoader(split.train.tolist(), 16, shuffle=True):
            x = torch.stack([sums[place] for place in ids])
            loss = nn.functional.cross_entropy(
                model["head"](model["norm"](x, torch.arange(len(x)))), split.graphs.y[ids]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        report(epoch + 1, train_loss=loss, val_score=0.5 + 0.1 * epoch)
    return {"val": 0.6 - learning_rate, "test": 0.7, "loss": loss.detach()}


def test_a_function_is_compared_like_a_model_of_the_lab(folder: Path) -> None:
    graphs = load_dataset("MUTAG", edge_features="none")
    comparison = compare(graphs, trial=train, learning_rate=(0.1, 0.01), **SMALL)
    assert [record.reason for record in comparison.records] == [""] * 2 * 2 * 3
    final = [record for record in comparison.records if record.config["stage"] == "final"]
    assert {record.config["learning_rate"] for record in final} == {0.01}  # the better validation
    record = final[0]
    assert record.config["model"]["trial"] == "train"
    assert "epochs" not in record.config
    assert record.outcome["test_score"] == 0.7
    assert record.outcome["loss"] == record.history["train_loss"][-1]
    assert record.history["validation_score"] == [0.5, 0.6]
    assert record.counts["test_items"] == 94
    assert comparison.verdict.row("graph").score.mean == pytest.approx(0.7)
    starts = comparison.verdict.starts
    assert (starts.weights.equal, starts.order.equal, starts.order.groups) == (2, 2, 2)
    assert "trial=train" in comparison.command
    assert comparison.settings.shown().keys().isdisjoint({"epochs", "batch_size", "weight_decay"})
    again = open_comparison(comparison.folder)
    assert again.verdict.to_dict() == comparison.verdict.to_dict()
    with pytest.raises(GraphnormsError, match="function in memory"):
        compare(graphs, out=comparison.folder, resume=True)
    more = compare(
        graphs, trial=train, out=comparison.folder, resume=True, norms="none,graph,layer"
    )
    assert more.settings.learning_rates == (0.01, 0.1)
    assert {r.key for r in comparison.records} < {r.key for r in more.records}
    with pytest.raises(ValueError, match="trains its models itself"):
        comparison.export("best.safetensors")


SEEN: list[Any] = []


def look(norm, split, seed):
    SEEN.append((norm.name, split.fold, seed, split))
    return 0.5


def test_splits_are_those_of_the_lab() -> None:
    graphs = load_dataset("MUTAG")
    SEEN.clear()
    comparison = compare(graphs, trial=look, **SMALL)
    plan, _ = prepare(graphs, Options(trial=look, norms="none,graph", folds=2))
    for name, fold, seed, split in SEEN:
        expected = split_items(graphs, plan.schedule.split(fold))
        assert torch.equal(split.train, expected.train)
        assert torch.equal(split.val, expected.validation)
        assert torch.equal(split.test, expected.test)
        assert len(split.take("test")) == len(expected.test)
        assert seed == next(s for n, f, s, _ in SEEN if f == fold and n == "none"), name
    assert len(comparison.records) == 4  # nothing to choose from: it takes no learning rate
    assert "lr" not in comparison.command


SOURCE = """
import numpy as np

def train(norm, split, seed):
    return {"test": len(split.test) / 100, "val": 1.0}

def nothing(norm):
    pass

def unlike(norm):
    return {"test": 1.0} if norm.name == "none" else {"test": 1.0, "val": 0.5}

def wrong(norm, split, gamma):
    return 1.0

def text(norm):
    return "good"

def sized(norm, split, seed, report, epochs=1, layers=2, width=8):
    return {"test": (10 * layers + width + (norm.name == "graph")) / 100, "val": 0}

def targets():
    return np.arange(40) % 2

def items():
    return 30
"""


@pytest.fixture
def module(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "own_trials.py").write_text(SOURCE)
    sys.modules.pop("own_trials", None)
    yield
    sys.modules.pop("own_trials", None)


@pytest.mark.usefixtures("module")
def test_a_run_of_a_named_function_is_resumed(capsys, monkeypatch) -> None:
    def command(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["graphnorms", "compare", *words])
        return cli.main()

    words = ["own_trials:targets", "--trial", "own_trials.py:train", "--folds", "2"]
    words += ["--norms", "none,graph"]
    assert command(*words) == 0
    assert command("--resume", "-o", "runs/targets-own_trials_train") == 0
    found = open_comparison("runs/targets-own_trials_train")
    assert [record.outcome["test_score"] for record in found.records] == [0.2] * 4
    assert "--trial own_trials:train" in found.command
    assert "--model" not in found.command
    capsys.readouterr()
    assert command(*words, "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["seconds"] is None


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"trial": "own_trials:wrong"}, "the argument 'gamma', expected some of norm, split"),
        ({"trial": "own_trials:absent"}, "own_trials has no 'absent'"),
        ({"trial": "train"}, "trial is 'train', expected module:function"),
        ({"trial": "own_trials:train", "epochs": 3}, "takes no epochs"),
        ({"trial": "own_trials:train", "optimizer": "adamw"}, "trains itself; leave it out"),
        ({"trial": "own_trials:train", "protocol": "paper"}, "choose nested or split"),
        ({"trial": "own_trials:train", "model": "gin"}, "leave one out"),
        ({"trial": "own_trials:train", "heads": 2}, "trains itself"),
        ({"trial": "own_trials:train", "vary": {"layers": [2, 3]}}, "nothing; give its arguments"),
        ({"trial": "own_trials:sized", "vary": {"depth": [2, 3]}}, "share: layers and width"),
        ({"trial": "own_trials:sized", "vary": {"epochs": [2, 3]}}, "share: layers and width"),
        ({"trial": "own_trials:sized", "vary": {"width": [2, [3]]}}, "width is .3., expected"),
        ({"trial": "own_trials:sized", "vary": {"width": [2]}}, "one value of width"),
        ({"trial": "own_trials:sized", "vary": {"layers": [2, "x"]}}, "expected an integer"),
        ({"trial": "own_trials:nothing", "time": "1h"}, "first trial of every norm failed"),
        ({"trial": "own_trials:train", "norms": "adja"}, "needs adjacency"),
        ({"metric": "f1:max"}, "but the lab trains"),
    ],
)
def test_what_is_not_possible_is_told_before_anything_is_trained(options, expected) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        prepare("MUTAG", Options(**options))
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("module")
def test_options_and_own_arguments_of_a_function_are_varied(capsys, monkeypatch) -> None:
    words = ["compare", "MUTAG", "--trial", "own_trials:sized", "--folds", "2", "-o", "sized"]
    words += ["--norms", "none,graph", "--vary", "layers=2,3", "--vary", "width=8,false"]
    monkeypatch.setattr(sys, "argv", ["graphnorms", *words])
    assert cli.main() == 0
    found = open_comparison("sized")
    means = {row.norm: row.score.mean for row in found.verdict.rows}
    assert means == {
        f"{norm} layers={layers} width={width}": (10 * layers + width + (norm == "graph")) / 100
        for norm in ("none", "graph")
        for layers in (2, 3)
        for width in (8, False)
    }
    assert "--vary layers=2,3 --vary width=8,False" in found.command
    config = found.records[0].config
    assert config["model"]["arguments"] == {"width": 8}
    assert config["model"]["takes"] == ["layers"]
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["graphnorms", "compare", "--resume", "-o", "sized"])
    assert cli.main() == 0
    assert "All 16 trials are there already" in capsys.readouterr().out


def slow(norm, split, seed, learning_rate, epochs=10):
    SEEN.append(norm.name)
    time.sleep(0.05)
    return {"test": 0.5, "val": 0.5}


def test_a_time_is_planned_by_a_whole_trial_of_every_norm(monkeypatch) -> None:
    monkeypatch.setattr(duration, "_START_OF_A_PROCESS", 0.0)
    options = {"trial": slow, "norms": "none,graph", "workers": 1, "out": "timed"}
    graphs = load_dataset("MUTAG")
    SEEN.clear()
    plan, _ = prepare(graphs, Options(**options, budget="full", time=6))
    assert sorted(SEEN) == ["graph", "none"]
    assert list(Path().iterdir()) == []
    settings = plan.settings
    # Two pilots and the rest, of 0.05 s at least: no more than 4.8 s hold.
    assert 20 <= settings.planned <= 94
    assert settings.epochs == 1, "what a trial does is not cut"
    assert 0.1 + 0.05 * settings.planned <= plan.fitted["seconds"] <= 4.8
    assert any("learning rates 5 → 3" in cut for cut in plan.fitted["cuts"])
    lines = " ".join(plan_lines(plan))
    assert "A whole trial of every norm was run to measure this" in lines
    with pytest.raises(ValueError, match="too short"):
        prepare(graphs, Options(**options, time=0.5, folds=10))


@pytest.mark.usefixtures("module")
def test_a_function_without_a_score_fails_and_unlike_scores_end_the_run() -> None:
    for name, expected in (("nothing", "returned nothing"), ("text", "expected a number")):
        comparison = compare("MUTAG", trial=f"own_trials:{name}", **SMALL)
        assert {record.status for record in comparison.records} == {"failed"}
        assert all(expected in record.reason for record in comparison.records)
    with pytest.raises(GraphnormsError, match="test_score in a trial of none, and test_score and"):
        compare("MUTAG", trial="own_trials:unlike", **SMALL)


@pytest.mark.usefixtures("module")
def test_data_may_be_the_user_s_own() -> None:
    listed = to_pyg(random_graphs(6, 5, 3))
    source = load_trial_source(listed, {})
    assert source.objects == listed
    assert len(source.graphs) == 6
    things = [SimpleNamespace(y=[float(place)], name=place) for place in range(8)]
    source = load_trial_source(things, {})
    assert source.objects == things
    assert source.graphs.y[:, 0].tolist() == list(range(8))
    assert source.graphs.task.kind == "regression"
    source = load_trial_source(["yes", "no"] * 5, {})
    assert (source.objects, source.graphs.class_names) == (None, ("no", "yes"))
    plan, _ = prepare("own_trials:items", Options(trial="own_trials:train", metric="size:max"))
    assert plan.dataset.num_items == 30
    assert plan_lines(plan)[0] == "data: items, 30 items"
    assert "graphs" not in plan_lines(plan)[0]
    with pytest.raises(ValueError, match="--metric NAME:max"):
        prepare("30", Options(trial="own_trials:train"))
    for given in ([], [object()], [[1], [1, 2]], 3.5, [SimpleNamespace(y=1), 2]):
        with pytest.raises(ValueError, match="expected"):
            load_trial_source(given, {})


def test_a_script_becomes_a_trial_by_three_lines() -> None:
    """What is left out, imports and the start as a script, is not counted."""
    script, trial = (
        [line for line in path.read_text().splitlines() if line.strip()]
        for path in (EXAMPLES / "pyg_script.py", EXAMPLES / "pyg_script_as_trial.py")
    )
    start = next(at for at, line in enumerate(script) if line.startswith("class"))
    end = next(at for at, line in enumerate(script) if line.startswith("if __name__"))
    body = trial[next(at for at, line in enumerate(trial) if line.startswith("class")) :]
    changed = [line for line in difflib.ndiff(script[start:end], body) if line[0] == "+"]
    assert len(changed) == 3
    names = {each.name for each in ast.parse("\n".join(trial)).body if hasattr(each, "name")}
    assert names == {"Net", "accuracy", "train"}


def test_the_script_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES.parent)
    graphs = load_dataset("MUTAG", edge_features="none")
    found = compare(graphs, trial="examples.pyg_script_as_trial:train", epochs=1, **SMALL)
    assert [record.reason for record in found.records] == [""] * 4
    starts = found.verdict.starts
    assert starts is not None
    assert (starts.weights.equal, starts.order.equal) == (2, 2)


def test_the_page_says_who_trained_and_how_norms_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page itself is not written in these tests; here it is made."""
    graphs = load_dataset("MUTAG", edge_features="none")
    found = compare(graphs, trial=train, learning_rate=(0.1, 0.01), **SMALL)
    monkeypatch.delitem(sys.modules, "graphnorms.report.page", raising=False)
    from graphnorms.report.page import render_page
    from graphnorms.report.style import display_name

    page = render_page(found.trials, found.verdict, found.settings.shown(), found.command)
    assert sentences(found.verdict, display_name).starts in html.unescape(page)
    assert "the code that trains returns it" in page
    assert "batch_size" not in page
