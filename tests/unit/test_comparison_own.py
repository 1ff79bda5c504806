"""Comparisons of a model of the user's own, from the module in a folder to the exported file."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphnorms import cli
from graphnorms.comparison import compare, open_comparison, prepare
from graphnorms.data import SplitConfig, load_dataset, split_items
from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.lab.choices import Choices
from graphnorms.lab.estimate import estimate
from graphnorms.training import load_model, score

SOURCE = '''
import torch
from torch import nn

import graphnorms


class Net(nn.Module):
    """Written for torch alone: it knows nothing of graphnorms."""

    def __init__(self, in_channels, out_channels, hidden=8):
        super().__init__()
        self.lin = nn.Linear(in_channels, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.head = nn.Linear(hidden, out_channels)

    def forward(self, x, edge_index, batch, batch_size):
        source, target = edge_index
        x = self.norm(self.lin(x.index_add(0, target, x[source]))).relu()
        return self.head(x.new_zeros(batch_size, x.shape[1]).index_add(0, batch, x))


class Picky(Net):
    """It takes the norm, but not every one."""

    def __init__(self, in_channels, out_channels, norm):
        super().__init__(in_channels, out_channels)
        if norm.name == "graph":
            raise RuntimeError("not with\\nme")
        self.norm = norm(8)


def never(norm):
    raise RuntimeError("the disk is full")
'''
SMALL = {"folds": 2, "epochs": 2, "learning_rate": (0.003, 0.01), "workers": 1}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module of the user's own in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    forget()
    write(SOURCE)
    yield tmp_path
    forget()


def write(source: str) -> None:
    Path("own_nets.py").write_text(source)


def forget() -> None:
    """As another process has it, which has not imported the module yet."""
    sys.modules.pop("own_nets", None)


def run(model: Any = "own_nets:Net", norms: str = "none,batch,graph", **changes: Any):
    return compare("MUTAG", model=model, norms=norms, **SMALL | changes)


@pytest.mark.usefixtures("stub_page")
def test_worker_processes_find_the_module(folder: Path) -> None:
    comparison = run(norms="none,graph", learning_rate=0.01)
    assert comparison.folder == Path("runs/MUTAG-own_nets_Net")
    assert [record.reason for record in comparison.records] == [""] * 4
    config = comparison.records[0].config["model"]
    assert (config["name"], config["head"], len(config["source"])) == ("own_nets:Net", "graph", 16)
    assert "--model own_nets:Net" in comparison.command


@pytest.mark.usefixtures("stub_page")
def test_worker_processes_are_sent_a_function_in_memory(folder: Path) -> None:
    class Mine(nn.Module):
        def __init__(self, in_channels, out_channels, norm):
            super().__init__()
            self.head = nn.Linear(in_channels, out_channels)
            self.norm = norm(out_channels)

        def forward(self, x, segments):
            totals = torch.zeros(segments.num_segments, 2).index_add(0, segments.index, x[:, :2])
            return self.head(x).sum() * 0 + totals

    comparison = run(Mine, norms="none,batch", learning_rate=0.01)
    assert [record.reason for record in comparison.records] == [""] * 4
    assert comparison.command.startswith("graphnorms.compare('MUTAG', ")
    assert "model=Mine" in comparison.command
    assert open_comparison(comparison.folder).command == comparison.command
    with pytest.raises(GraphnormsError, match="a model made by a function in memory; call compare"):
        compare("MUTAG", out=comparison.folder, resume=True)
    again = run(Mine, norms="none,batch", learning_rate=0.01, out=comparison.folder)
    assert again.records == comparison.records


@pytest.mark.usefixtures("stub_page")
def test_a_run_goes_on_and_is_refused_when_the_source_has_changed(
    folder: Path, in_this_process: list[str]
) -> None:
    comparison = run()
    assert len(in_this_process) == len(comparison.records) == 3 * 2 * (2 + 1)
    path = comparison.folder / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7]))
    forget()
    again = compare("MUTAG", out=comparison.folder, resume=True)
    assert len(in_this_process) == 18 + 11
    assert untimed(again) == untimed(comparison)
    write(SOURCE.replace("hidden=8", "hidden=9"))
    forget()
    with pytest.raises(RunExistsError, match="source: "):
        compare("MUTAG", out=comparison.folder, resume=True)
    other = run(out="other")
    assert {record.key for record in other.records}.isdisjoint(r.key for r in comparison.records)


@pytest.mark.usefixtures("stub_page", "in_this_process")
def test_a_norm_that_the_model_does_not_run_with_is_told_and_stops_nobody(folder: Path) -> None:
    plan, _ = prepare("MUTAG", choices=Choices(model="own_nets:Picky", norms="batch,graph,adja"))
    found = estimate(plan).failing
    assert found["graph"] == "RuntimeError: not with me"
    assert "needs adjacency" in found["adja"]
    comparison = run("own_nets:Picky", "batch,graph,adja")
    outcomes: dict[str, set[str]] = {}
    for record in comparison.records:
        outcomes.setdefault(record.config["norm"], set()).add(record.reason)
    assert outcomes.pop("adja").pop().startswith("ValueError: the norm 'adja' needs adjacency")
    assert outcomes == {"none": {""}, "batch": {""}, "graph": {"RuntimeError: not with me"}}
    assert "graph failed in all 2 trials" in " ".join(repr(comparison).split())


def test_a_dry_run_tells_what_the_model_does_not_run_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--model", "own_nets:Picky", "--norms", "batch,graph", "--stack", "4"]
    monkeypatch.setattr(sys, "argv", ["graphnorms", *words, "--workers", "1", "--dry-run"])
    assert cli.main() == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "The model that own_nets:Picky makes, preset default: 50 epochs" in out
    assert "1 at a time, each up to 4 trained at once on cpu" in out
    assert "The model does not run with graph: RuntimeError: not with me" in out
    assert not (folder / "runs").exists()


def test_norms_differ_in_the_norm_alone(
    folder: Path, in_this_process: list[str], stub_page
) -> None:
    """With a rate too small to matter, models in eval mode have the same weights but for norms."""
    comparison = run(learning_rate=1e-30, epochs=1, norms="none,batch")
    first = comparison.export("none.safetensors", norm="none")
    second = comparison.export("batch.safetensors", norm="batch")
    states = [load_model(path, model="own_nets:Net").state_dict() for path in (first, second)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


@pytest.mark.usefixtures("stub_page", "in_this_process")
def test_an_exported_model_needs_its_code(folder: Path, tmp_path: Path) -> None:
    comparison = run(functools.partial(found(), hidden=4))
    path = comparison.export("best.safetensors", norm="graph")
    with pytest.raises(GraphnormsError, match=r"a model of Net, which .* load_model\(path, model="):
        load_model(path)
    with pytest.raises(GraphnormsError, match=r"does not make the model of this file: .*size"):
        load_model(path, model="own_nets:Net")
    model = load_model(path, model=functools.partial(found(), hidden=4))
    done = [r for r in comparison.records if r.config == model.config.to_dict()]
    assert len(done) == 1
    graphs = load_dataset("MUTAG")
    ids = split_items(graphs, SplitConfig(**model.config.split)).test
    with torch.no_grad():
        outputs = model(graphs.batch(ids))
    accuracy = score("accuracy", "classification", outputs, graphs.y[ids])
    assert accuracy == pytest.approx(done[0].outcome["test_score"])


def found() -> Any:
    from graphnorms.user_code import find

    return find("own_nets:Net", "a model")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("own_nets:none", "own_nets:none: own_nets has no 'none'"),
        ("nowhere:Net", "nowhere:Net: no module 'nowhere' in "),
        ("own_nets:nn", "own_nets:nn is of type module, expected a function that makes a model"),
        ("own_nets:never", "^own_nets:never raised RuntimeError: the disk is full$"),
        ("own_nets.py:Net", "'own_nets.py:Net' names a file, expected its module: own_nets:Net"),
        ("ginn", "unknown model 'ginn'; did you mean gin.*; one of your own is module:function"),
    ],
)
def test_wrong_models_are_one_line(folder: Path, model: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        prepare("MUTAG", choices=Choices(model=model))
    assert "\n" not in str(error.value)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"residual": "after-norm"}, "residual after-norm is of the lab's own models"),
        ({"norm_place": "after-activation"}, "norm place after-activation is of the lab's own"),
        ({"layers": 3}, "layers is 3, but own_nets:Net takes no layers"),
    ],
)
def test_what_the_lab_cannot_choose_is_refused(
    folder: Path, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare("MUTAG", choices=Choices(model="own_nets:Net", **choices))
    plan, _ = prepare("MUTAG", choices=Choices(model="own_nets:Net", hidden=5))
    assert plan.settings.architecture["hidden"] == 5


def untimed(comparison: Any) -> list[dict[str, Any]]:
    return [record.without_timing() for record in comparison.records]
