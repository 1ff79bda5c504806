"""Comparisons of a model of the user's own, from the module in a folder to the exported file."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

from graphnorms import cli, training
from graphnorms.data import SplitConfig, load_dataset, split_items
from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import open_comparison
from graphnorms.lab.duration import estimate
from graphnorms.lab.engines import make_engine
from graphnorms.lab.options import Options
from graphnorms.lab.prepare import prepare
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


def refuses(norm):
    raise ValueError("boom")


class Untrained(Net):
    def forward(self, x, edge_index, batch, batch_size):
        if self.training:
            raise ValueError("not trained")
        return super().forward(x, edge_index, batch, batch_size)
'''
SMALL = {"folds": 2, "epochs": 2, "learning_rate": (0.003, 0.01), "workers": 1}
SMALLEST = {"protocol": "split", "runs": 1, "folds": None, "learning_rate": 0.01}
"""A trial for each norm, where each takes a process of its own."""


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
    comparison = run(norms="none,graph", **SMALLEST)
    assert comparison.folder == Path("runs/MUTAG-own_nets_Net-split")
    assert [record.reason for record in comparison.records] == [""] * 2
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

    comparison = run(Mine, norms="none,batch", **SMALLEST)
    assert [record.reason for record in comparison.records] == [""] * 2
    assert comparison.command.startswith("graphnorms.compare('MUTAG', ")
    assert "model=Mine" in comparison.command
    assert open_comparison(comparison.folder).command == comparison.command
    with pytest.raises(GraphnormsError, match="a model made by a function in memory; call compare"):
        compare("MUTAG", out=comparison.folder, resume=True)
    again = run(Mine, norms="none,batch", **SMALLEST, out=comparison.folder)
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
    plan, _ = prepare("MUTAG", Options(model="own_nets:Picky", norms="batch,graph,adja"))
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
    words = ["compare", "--model", "own_nets:Picky", "--norms", "batch,graph"]
    monkeypatch.setattr(sys, "argv", ["graphnorms", *words, "--workers", "1", "--dry-run"])
    assert cli.main() == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "the model that own_nets:Picky makes, preset default: 50 epochs" in out
    assert "1 at a time on cpu" in out
    assert "The model does not run with graph: RuntimeError: not with me" in out
    assert not (folder / "runs").exists()


def test_a_dry_run_tells_that_no_training_step_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "--model", "own_nets:Untrained", "--norms", "none,batch", "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["graphnorms", *words])
    assert cli.main() == 2
    assert capsys.readouterr().err == (
        "graphnorms: a training step fails with every norm; with batch: ValueError: not trained\n"
    )


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
    with pytest.raises(
        GraphnormsError, match=r"its model is Net, which .* load_model\(path, model="
    ):
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
        ("own_nets:refuses", "^own_nets:refuses raised ValueError: boom$"),
        ("../own_nets.py:Net", "'../own_nets.py:Net': ../own_nets.py is not a module below"),
        ("ginn", "unknown model 'ginn'; did you mean gin.*; one of your own is module:function"),
    ],
)
def test_wrong_models_are_one_line(folder: Path, model: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        prepare("MUTAG", Options(model=model))
    assert "\n" not in str(error.value)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"residual": "after-norm"}, "residual is after-norm, but .* places its norms itself"),
        (
            {"norm_place": "after-activation"},
            "norm_place is after-activation, but .* places its norms itself",
        ),
        ({"qk_norm": "rms"}, "qk_norm is rms, but .* places its norms itself"),
        ({"edge_norm": "batch"}, "edge_norm is batch, but .* places its norms itself"),
        ({"layers": 3}, "layers is 3, but own_nets:Net takes no layers"),
    ],
)
def test_what_the_lab_cannot_choose_is_refused(
    folder: Path, choices: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prepare("MUTAG", Options(model="own_nets:Net", **choices))
    plan, _ = prepare("MUTAG", Options(model="own_nets:Net", hidden=5))
    assert plan.settings.architecture["hidden"] == 5


def untimed(comparison: Any) -> list[dict[str, Any]]:
    return [record.without_timing() for record in comparison.records]


POLLUTING = """
import builtins, gc, locale, os, random, signal, sys, warnings

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    made = 0

    def __init__(self, in_channels, out_channels, norm):
        super().__init__()
        kind = type(self)
        kind.made += 1
        builtins.seen = getattr(builtins, "seen", 0) + 1
        here = os.getcwd() + os.environ.get("POLLUTED", "") + str(len(sys.path))
        state = kind.made + builtins.seen + len(here) % 7 + torch.get_num_threads()
        state += random.random() + np.random.rand() + len(warnings.filters) + len(sys.argv)
        state += sys.getrecursionlimit() + 5 * torch.is_grad_enabled() + gc.isenabled()
        state += 3 * torch.are_deterministic_algorithms_enabled() + len({"a", "b"}.pop() * 3)
        state += ord(next(iter({"some", "words", "in", "an", "order"}))[0])
        state += torch.backends.cudnn.benchmark + torch.is_autocast_enabled("cpu")
        self.scale = 1 + 0.001 * state
        self.lin = nn.Linear(in_channels, 8)
        self.norm = norm(8)
        self.head = nn.Linear(8, out_channels)

    def forward(self, x, batch, batch_size):
        x = self.norm(self.lin(x)) * self.scale * (1 + 0.1 * random.random())
        out = self.head(x.new_zeros(batch_size, 8).index_add(0, batch, x))
        if random.random() < 0.1:
            pollute()
        return out


def pollute():
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    torch.manual_seed(random.randrange(10**9))
    torch.backends.cudnn.benchmark = True
    torch.set_autocast_enabled("cpu", True)
    torch.set_flush_denormal(True)
    nn.Linear.bias_of_all = 1
    np.random.seed(1)
    np.seterr(all="raise")
    warnings.simplefilter("error")
    sys.stdout.close()
    sys.stderr.close()
    os.environ["POLLUTED"] = "yes"
    os.chdir("/")
    sys.path.append("/nowhere")
    sys.argv.append("--polluted")
    sys.setrecursionlimit(5000)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    locale.setlocale(locale.LC_ALL, "C")
    gc.disable()
"""


@pytest.mark.parametrize(
    ("trials", "workers"), [(3, (1, 2)), pytest.param(30, (1, 2, 3), marks=pytest.mark.slow)]
)
def test_a_record_does_not_depend_on_the_trials_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trials: int, workers: tuple[int, ...]
) -> None:
    """Models that change all they can, in another order and in other company each time."""
    monkeypatch.chdir(tmp_path)
    Path("polluting_nets.py").write_text(POLLUTING)
    rates = tuple(0.001 * (1 + each) for each in range(trials // 2))
    choices = Options(
        model="polluting_nets:Net",
        norms="none,graph",
        folds=2,
        epochs=2,
        learning_rate=rates,
        protocol="paper",
    )
    plan, _ = prepare("MUTAG", choices)
    assert torch.get_default_dtype() == torch.float32
    assert Path.cwd() == tmp_path
    configs = Agenda(plan.schedule).known()[:trials]
    found = []
    for number in workers:
        Random(number).shuffle(configs)
        with make_engine(
            "local", training.run_trial, plan.dataset, workers=number, fresh=True
        ) as engine:
            records = {record.key: record.without_timing() for record in engine.run(configs)}
        assert {record["status"] for record in records.values()} == {"done"}, records
        found.append(records)
    assert all(records == found[0] for records in found)


ENDS = {
    "import": ("import sys; sys.exit(0)", "importing ends raised SystemExit: 0; "),
    "factory": ("import sys\ndef Net(norm): sys.exit(0)", "ends:Net raised SystemExit: 0; "),
    "constructor": (
        "from torch import nn\nclass Net(nn.Module):\n"
        "    def __init__(self, norm): raise SystemExit",
        "ends:Net raised SystemExit; ",
    ),
    "first call": (
        "import sys\nfrom torch import nn\nclass Net(nn.Linear):\n"
        "    def __init__(self, norm): super().__init__(7, 2)\n"
        "    def forward(self, x): sys.exit()",
        "ends:Net raised SystemExit",
    ),
    "interrupts": ("raise KeyboardInterrupt", "importing ends raised KeyboardInterrupt; "),
    "reads arguments": (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--data', required=True)\n"
        "p.parse_args()",
        "importing ends raised SystemExit: the following arguments are required: --data; ",
    ),
}


@pytest.mark.parametrize(("source", "message"), ENDS.values(), ids=ENDS)
def test_no_code_of_ones_own_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ends.py").write_text(source)
    monkeypatch.setattr(sys, "argv", ["graphnorms", "compare", "--model", "ends:Net"])
    sys.modules.pop("ends", None)
    assert cli.main() == 2
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"graphnorms: {message}")
    assert output.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "_"] == ["ends.py"]
    monkeypatch.setattr(sys, "argv", ["graphnorms", "compare", "ends:Net"])
    sys.modules.pop("ends", None)
    if "norm" not in source:
        assert cli.main() == 2
        assert capfd.readouterr().err.startswith(f"graphnorms: {message}")
