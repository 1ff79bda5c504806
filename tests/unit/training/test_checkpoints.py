"""Trials of user code that go on where they were ended, and what they keep."""

from __future__ import annotations

import math
import random
import sys
import time
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from graphnorms.data import load_dataset
from graphnorms.errors import GraphnormsError
from graphnorms.lab import engines
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import Comparison
from graphnorms.lab.engines.attempt import NotTheTrialError
from graphnorms.training.checkpoints import (
    Checkpoints,
    generator_states,
    load_weights,
    set_generators,
    state_of,
)
from graphnorms.training.trial_report import Report
from graphnorms.training.trial_start import TrialStart

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # importing PyG calls what torch has deprecated
    import torch_geometric.data  # noqa: F401

EPOCHS = 8
SEEN: list[tuple[int, list[float]]] = []
"""The first step of each attempt, and the weights that it began with."""

SAVED: list[list[float]] = []
END_AT: list[int] = []


class EndedError(NotTheTrialError):
    """Ends a run as a kill does: no record is written."""


def train(norm, split, seed, report):
    model = nn.Sequential(nn.Linear(7, 8), norm(8), nn.Dropout(0.3), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    order = torch.Generator().manual_seed(seed)
    sums = torch.stack([data.x.sum(0) for data in split.data])
    y = split.graphs.y
    first = report.load(model=model, optimizer=optimizer, order=order)
    best = report.checkpoint["best"] if report.checkpoint else -math.inf
    SEEN.append((first, model[0].weight.flatten().tolist()))
    for epoch in range(first, EPOCHS):
        model.train()
        for ids in split.train[torch.randperm(len(split.train), generator=order)].split(40):
            noise = random.random() + np.random.rand()  # noqa: NPY002 - users draw from it
            loss = nn.functional.cross_entropy(model(sums[ids] + 0.01 * noise), y[ids])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if END_AT and END_AT[0] == epoch:
            END_AT.clear()
            raise EndedError
        model.eval()
        right = {
            part: float((model(sums[ids]).argmax(1) == y[ids]).double().mean())
            for part, ids in (("val", split.val), ("test", split.test))
        }
        report(epoch, train_loss=loss, val_score=right["val"])
        if right["val"] > best:
            best = right["val"]
            report.keep(model=model)
        report.save(epoch + 1, model=model, optimizer=optimizer, order=order, best=best)
        SAVED.append(model[0].weight.flatten().tolist())
    return right


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seen in (SEEN, SAVED, END_AT):
        seen.clear()
    return tmp_path


def run(out: str) -> Comparison:
    graphs = load_dataset("MUTAG", edge_features="none")
    return compare(graphs, trial=train, norms="none,layer", folds=2, runs=1, out=out)


@pytest.mark.usefixtures("stub_page", "in_this_process")
def test_a_trial_that_was_ended_goes_on_as_if_it_had_not_been() -> None:
    whole = run("whole")
    assert not Path("whole/checkpoints").exists()
    SEEN.clear()
    SAVED.clear()
    END_AT.append(5)
    with pytest.raises(EndedError):
        run("ended")
    (path,) = Path("ended/checkpoints").iterdir()
    assert load_weights(path)["step"] == 5
    before = SAVED[-1]
    again = run("ended")
    assert SEEN[1] == (5, before)
    assert [first for first, _ in SEEN[2:]] == [0, 0, 0]
    for one, other in zip(whole.records, again.records, strict=True):
        for part in ("outcome", "history", "start", "counts"):
            assert getattr(one, part) == getattr(other, part), part
    assert len(again.records[0].timing["train"]) == EPOCHS
    assert not Path("ended/checkpoints").exists()
    kept = again.kept("layer")["model"]
    assert kept["0.weight"].shape == (8, 7)
    best = max(
        (r for r in again.records if r.config["norm"] == "layer"),
        key=lambda record: record.outcome["validation_score"],
    )
    assert torch.equal(
        kept["0.weight"], load_weights(Path(f"whole/weights/{best.key}.pt"))["model"]["0.weight"]
    )
    with pytest.raises(ValueError, match=r"Comparison\.kept reads"):
        again.export("model.safetensors")


def test_only_states_are_saved_and_nothing_read_is_executed(folder: Path) -> None:
    model = nn.Linear(2, 2)
    assert isinstance(state_of("model", model)["weight"], torch.Tensor)
    assert state_of("mix", OrderedDict(a=[1, (2.0, None)], b="c")) == {
        "a": [1, (2.0, None)],
        "b": "c",
    }
    for wrong in (object(), {"a": [np.zeros(2)]}, print):
        with pytest.raises(ValueError, match="expected something with a state_dict"):
            state_of("it", wrong)
    torch.save({"model": model}, folder / "code.pt")  # a pickled module
    with pytest.raises(GraphnormsError, match="could run code"):
        load_weights(folder / "code.pt")


def test_a_damaged_checkpoint_or_a_folder_that_is_not_there(folder: Path, caplog) -> None:
    files = Checkpoints(folder, "key")
    report = Report(TrialStart(), files=files)
    report.save(3, value=1)
    with pytest.raises(ValueError, match="other was not saved; step, value were"):
        Report(TrialStart(), files=files).load(other=nn.Linear(1, 1))
    files.path.write_bytes(files.path.read_bytes()[:-20])
    assert Report(TrialStart(), files=files).load(value=nn.Linear(1, 1)) == 0
    assert "begins anew" in caplog.text
    (files.path.parent / ".key.pt.123").touch()  # a process that was killed while it wrote
    files.remove()
    files.path.parent.rmdir()
    away = Report(TrialStart(), files=Checkpoints(folder / "none", "key"))
    away.save(1, value=1)
    assert away.load(value=nn.Linear(1, 1)) == 0
    with pytest.raises(ValueError, match="has no folder"):
        away.keep(value=1)
    Report(TrialStart(), files=files, keeps=False).keep(value=1)
    assert list(folder.iterdir()) == []


def test_the_generators_go_on(folder: Path) -> None:
    files = Checkpoints(folder, "key")
    files.write(generator_states())

    def drawn() -> list[float]:
        return [random.random(), np.random.rand(), float(torch.rand(()))]  # noqa: NPY002

    first = drawn()
    assert drawn() != first
    states = files.read()
    assert states is not None
    set_generators(states)
    assert drawn() == first


KILLED = """
import os, signal
from pathlib import Path
import torch
from torch import nn

HERE = Path(__file__).parent

def train(norm, split, seed, report):
    model = nn.Linear(3, 3)
    first = report.load(model=model)
    notes = HERE / f"{norm.name}-{split.fold}.txt"
    with notes.open("a") as file:
        file.write(f"{first} {model.weight.flatten().tolist()}\\n")
    for epoch in range(first, 10):
        with torch.no_grad():
            model.weight += torch.randn(3, 3)
        if epoch == 7 and first == 0 and norm.name == "layer":
            notes.write_text(f"saved {saved}\\n")
            os.kill(os.getpid(), signal.SIGKILL)
        report(epoch, train_loss=epoch)
        report.save(epoch + 1, model=model)
        saved = model.weight.flatten().tolist()
    return {"test": float(model.weight.detach().sum().sigmoid()), "val": 0.5}
"""


@pytest.mark.full("kills of whole runs")
@pytest.mark.usefixtures("stub_page")
def test_a_trial_that_is_killed_goes_on_with_the_saved_weights(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "killed_trials.py").write_text(KILLED)
    monkeypatch.setattr(sys, "path", [*sys.path])
    comparison = compare(
        "MUTAG", trial="killed_trials:train", norms="none,layer", folds=2, workers=2, out="run"
    )
    assert not Path("run/checkpoints").exists()
    for record in comparison.records:
        assert record.status == "done"
        assert record.history["train_loss"] == [float(epoch) for epoch in range(10)]
    for fold in range(2):
        saved, resumed = (folder / f"layer-{fold}.txt").read_text().splitlines()
        assert resumed == saved.replace("saved", "7")


def late(norm, split, seed, report):
    first = report.load()
    for epoch in range(first, 4):
        if epoch == 3 and first == 0:
            time.sleep(1.2)
        report(epoch, train_loss=epoch)
        report.save(epoch + 1)
    return (1 + first) / 4


@pytest.mark.usefixtures("stub_page")
def test_a_trial_over_its_time_goes_on_when_the_run_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engines,
        "make_engine",
        lambda _, *work, timeout, **more: engines.ThisProcess(*work, timeout),
    )
    options = {"trial": late, "norms": "none,layer", "folds": 2, "out": "late"}
    first = compare("MUTAG", timeout=1, **options)
    assert {record.reason for record in first.records} == {"over the time limit of 1 s"}
    assert len(list(Path("late/checkpoints").iterdir())) == 4
    again = compare("MUTAG", **options)
    assert [record.outcome["test_score"] for record in again.records] == [1.0] * 4
    assert not Path("late/checkpoints").exists()
