"""Comparisons with norms of the user's own, by name and as objects."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from graphnorms.data import load_dataset
from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import open_comparison
from graphnorms.lab.duration import estimate
from graphnorms.lab.engines import make_engine
from graphnorms.lab.options import Options
from graphnorms.lab.predict import predict
from graphnorms.lab.prepare import prepare
from graphnorms.training import TrialConfig, load_model, run_trial

SOURCE = """
from torch import nn


class Centred(nn.Module):
    def __init__(self, channels, gain=1.0):
        super().__init__()
        self.gain = gain
        self.lin = nn.Linear(channels, channels)

    def forward(self, x, batch, batch_size):
        sums = x.new_zeros(batch_size, x.shape[1]).index_add(0, batch, x)
        counts = x.new_zeros(batch_size, 1).index_add(0, batch, x.new_ones(len(x), 1))
        return self.gain * self.lin(x - (sums / counts)[batch])


def alone(channels):
    return nn.LayerNorm(channels)


class Net(nn.Module):
    def __init__(self, in_channels, out_channels, norm=None):
        super().__init__()
        self.lin = nn.Linear(in_channels, 4)
        self.norm = nn.BatchNorm1d(4) if norm is None else norm(4)
        self.head = nn.Linear(4, out_channels)

    def forward(self, x, edge_index, batch, batch_size):
        x = self.norm(self.lin(x)).relu()
        return self.head(x.new_zeros(batch_size, 4).index_add(0, batch, x))


class Plain(Net):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels)
"""
SMALL: dict[str, Any] = {
    "folds": 2,
    "epochs": 2,
    "learning_rate": 0.01,
    "workers": 1,
    "hidden": 4,
    "layers": 1,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module of the user's own in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    write(SOURCE)
    yield tmp_path
    sys.modules.pop("own_norms", None)


def write(source: str) -> None:
    Path("own_norms.py").write_text(source)
    sys.modules.pop("own_norms", None)  # as another process has it


def run(norms: Any, **changes: Any):
    return compare("MUTAG", norms=norms, **SMALL | changes)


class Local:
    """Functions in memory: a class in a function cannot be imported."""

    @staticmethod
    def doubled() -> type[nn.Module]:
        class Doubled(nn.Module):
            def __init__(self, channels: int, gain: float = 2.0) -> None:
                super().__init__()
                self.gain = gain

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.gain * x

        return Doubled


@pytest.mark.usefixtures("stub_page", "in_this_process")
def test_norms_by_name_are_treatments_with_their_source(folder: Path) -> None:
    comparison = run("none,own_norms.py:Centred:gain=0.5,own_norms:alone,graph")
    names = ("none", "own_norms:Centred:gain=0.5", "own_norms:alone", "graph")
    assert comparison.settings.norms == names
    assert [record.reason for record in comparison.records] == [""] * 8
    sources = {r.config["norm"]: r.config.get("norm_source") for r in comparison.records}
    assert [len(sources[name] or "") for name in names] == [0, 16, 16, 0]
    assert {row.norm for row in comparison.verdict.rows} == set(names)
    assert "own_norms:alone" in comparison.table(width=120)
    assert "--norms none,own_norms:Centred:gain=0.5,own_norms:alone,graph" in comparison.command
    opened = open_comparison(comparison.folder)
    assert (opened.settings, opened.command) == (comparison.settings, comparison.command)
    assert opened.records == comparison.records
    record = comparison.records[1]
    config = TrialConfig(**record.config)
    again = run_trial(config, load_dataset("MUTAG"))
    assert again.without_timing() == record.without_timing()
    assert run(opened.settings.norms).records == comparison.records, "nothing is trained anew"


@pytest.mark.usefixtures("stub_page", "in_this_process")
def test_a_changed_source_is_another_treatment_and_refused_in_the_folder(folder: Path) -> None:
    comparison = run("own_norms:Centred")
    write(SOURCE.replace("self.gain * self.lin", "2 * self.gain * self.lin"))
    with pytest.raises(RunExistsError, match="own_norms:Centred, source: "):
        run("own_norms:Centred")
    with pytest.raises(RunExistsError, match="own_norms:Centred, source: "):
        compare("MUTAG", out=comparison.folder, resume=True)
    other = run("own_norms:Centred", out="other")
    keys = [
        {r.key for r in each.records if r.config["norm"] != "none"} for each in (comparison, other)
    ]
    assert keys[0].isdisjoint(keys[1])
    config = TrialConfig(**comparison.records[1].config)
    with pytest.raises(ValueError, match="the source of own_norms:Centred is not what it was"):
        run_trial(config, load_dataset("MUTAG"))


@pytest.mark.usefixtures("stub_page", "in_this_process")
def test_classes_and_functions_are_norms_and_resume_needs_those_in_memory(folder: Path) -> None:
    doubled = Local.doubled()
    norms = ["none", doubled, functools.partial(doubled, gain=3.0), torch.nn.LayerNorm]
    comparison = run(norms)
    assert comparison.settings.norms == (
        "none",
        "Doubled",
        "Doubled:gain=3.0",
        "torch.nn:LayerNorm",
    )
    assert [record.reason for record in comparison.records] == [""] * 8
    assert comparison.command.startswith("graphnorms.compare('MUTAG', norms=('none', Doubled, ")
    assert open_comparison(comparison.folder).command == comparison.command
    with pytest.raises(GraphnormsError, match="a norm that was made in memory, Doubled; call comp"):
        compare("MUTAG", out=comparison.folder, resume=True)
    assert run(norms, out=comparison.folder, resume=True).records == comparison.records
    with pytest.raises(ValueError, match="two norms are called 'Doubled'"):
        run([doubled, Local.doubled()])


@pytest.mark.usefixtures("stub_page")
def test_worker_processes_find_norms_and_are_sent_those_in_memory(folder: Path) -> None:
    norms = ["none", "own_norms:Centred", Local.doubled()]
    split = {"protocol": "split", "runs": 1, "folds": None, "epochs": 1, "workers": 3}
    comparison = run(norms, **split)
    found = [(record.config["norm"], record.reason) for record in comparison.records]
    assert found == [("none", ""), ("own_norms:Centred", ""), ("Doubled", "")]


@pytest.mark.usefixtures("stub_page", "in_this_process")
@pytest.mark.parametrize("model", ["own_norms:Net", "own_norms:Plain"])
def test_models_of_ones_own_take_norms_of_ones_own(folder: Path, model: str) -> None:
    """Given as an argument and called without the batch, or in the place of a BatchNorm."""
    own = {key: value for key, value in SMALL.items() if key not in ("hidden", "layers")}
    comparison = compare("MUTAG", model=model, norms="none,own_norms:Centred", **own)
    assert [record.reason for record in comparison.records] == [""] * 4
    path = comparison.export("own.safetensors", norm="own_norms:Centred")
    loaded = load_model(path, model=model, norm="own_norms:Centred")
    assert loaded.outcome["test_score"] in {r.outcome["test_score"] for r in comparison.records}


@pytest.mark.usefixtures("stub_page", "in_this_process")
def test_an_exported_model_needs_the_code_of_its_norm(folder: Path) -> None:
    comparison = run("own_norms:Centred")
    path = comparison.export("model.safetensors", norm="own_norms:Centred")
    with pytest.raises(
        GraphnormsError, match=r"load_model\(path, norm='own_norms:Centred'\) or pr"
    ):
        load_model(path)
    with pytest.raises(GraphnormsError, match="does not make the model of this file"):
        load_model(path, norm="own_norms:alone")
    assert len(list(predict(path, "MUTAG", norm="own_norms:Centred").rows())) == 188


def test_a_dry_run_measures_them(folder: Path) -> None:
    plan, config = prepare(
        "MUTAG", Options(norms="own_norms:Centred", hidden=4, layers=1, epochs=2)
    )
    assert config["own_norms"]["own_norms:Centred"].keys() == {"source"}
    found = estimate(plan)
    assert dict(found.failing) == {}
    assert found.seconds > plan.settings.planned, "a process is started for each trial"


@pytest.mark.parametrize(
    ("norms", "message"),
    [
        ("own_norms:nothing", "own_norms:nothing: own_norms has no 'nothing'"),
        ("own_norms:SOURCE", "has no 'SOURCE'"),
        ("own_norms:Net", r"Net cannot be called with the channels alone \(missing a required"),
        ("own_norms:alone,own_norms:alone", "two norms are called 'own_norms:alone'"),
        ([5], "a norm is 5, expected a text, such as 'graph' or"),
    ],
)
def test_wrong_norms_are_refused_before_anything_is_begun(
    folder: Path, norms: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        run(norms)
    assert "\n" not in str(caught.value)
    assert [path.name for path in folder.iterdir() if path.suffix == ""] in ([], ["__pycache__"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_dask_workers_find_them(folder: Path) -> None:
    pytest.importorskip("distributed")
    from tests.faults import dask_cluster

    plan, _ = prepare(
        "MUTAG",
        Options(
            norms=["own_norms:Centred", Local.doubled()],
            protocol="split",
            runs=1,
            epochs=1,
            hidden=4,
            layers=1,
            learning_rate=0.01,
        ),
    )
    trial = functools.partial(run_trial, norms=plan.norm_functions)
    configs = Agenda(plan.schedule).known()
    with (
        dask_cluster(folder, workers=1) as (address, _),
        make_engine(
            "dask", trial, plan.dataset, workers=1, scheduler=address, fresh=True
        ) as engine,
    ):
        records = list(engine.run(configs))
    # One trial each: every one starts a process, which imports torch.
    found = {record.config["norm"]: record.reason for record in records}
    assert found == {"none": "", "own_norms:Centred": "", "Doubled": ""}
