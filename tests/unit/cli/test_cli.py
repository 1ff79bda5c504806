"""The command line: what it prints where, its exit codes, and bad input in one line."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from tests.faults import wait_until

from graphnorms import cli
from graphnorms.data import load_dataset, save_npz
from graphnorms.errors import GraphnormsError
from graphnorms.lab import duration
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import open_comparison
from graphnorms.lab.duration import Expectation
from graphnorms.lab.journal import read_records
from graphnorms.lab.sentences import sentences

SMALL = [
    "--norms",
    "none,graph",
    "--folds",
    "2",
    "--epochs",
    "1",
    "--lr",
    "0.003,0.01",
    "--hidden",
    "8",
    "--layers",
    "2",
    "--workers",
    "1",
]
PLANNED = 2 * 2 * (2 + 1)
COMMAND = [sys.executable, "-m", "graphnorms"]


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphnorms", *arguments])
        code = cli.main()
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture
def no_estimate(monkeypatch):
    """Measure nothing: that takes a second for every plan."""
    found = Expectation(seconds=1.0, steps=1, quickest=0.1, slowest=0.1)
    monkeypatch.setattr(duration, "estimate", lambda plan, kept=(): found)


def flat(text: str) -> str:
    """The words of a text, wherever its lines end."""
    return " ".join(text.split())


def test_alone_it_shows_what_it_can_do(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    for command in ("compare", "norms", "backends", "runs", "show RUN", "bench layers"):
        assert f"graphnorms {command}" in out


def test_every_command_explains_itself(run):
    for command in ([], ["compare"], ["norms"], ["backends"], ["runs"], ["show"]):
        code, out, _ = run(*command, "--help")
        assert code == 0
        assert "Usage" in out


def test_the_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("graphnorms ")


def test_the_catalogue_and_the_backends_are_listed(run):
    _, out, _ = run("norms")
    for name in ("none", "batch", "layer", "instance", "graph"):
        assert any(line.split()[:1] == [name] for line in out.splitlines())
    code, out, _ = run("backends")
    assert code == 0
    assert "reference runs" in out


@pytest.mark.usefixtures("in_this_process")
def test_a_comparison_says_what_it_does_and_what_came_out(run, tmp_path, stub_page):
    code, out, err = run("compare", *SMALL)
    assert (code, err) == (0, "")
    for words in (
        "MUTAG, 188 graphs",
        "GIN of 2 × 8, preset default: 1 epoch by adam, learning rates 0.003, 0.01",
        "protocol nested, budget quick: 2 test folds",
        "2 norms (none, graph) × (4 to choose the rate + 2 tested) = 12 trials, 1 at a time on cpu",
        "12/12 final fold 1 run 0 lr 0.0",
        "report: runs/MUTAG-gin/report.html",
    ):
        assert words in flat(out)
    lines = [line for line in out.splitlines() if "/12  " in line]
    assert [int(line.split("/")[0]) for line in lines] == list(range(1, 13)), "a line per trial"
    assert "\x1b" not in out, "no colours in a pipe"
    assert (tmp_path / "runs" / "MUTAG-gin" / "report.html").exists()

    code, again, _ = run("compare", *SMALL)
    assert code == 0
    assert "All 12 trials are there already." in again
    assert "select  fold" not in again
    verdict = "There are too few"
    said = sentences(compare("MUTAG", out="runs/MUTAG-gin", resume=True).verdict)
    for sentence in said.headline:
        assert flat(sentence) in flat(out), verdict
        assert flat(sentence) in flat(again)


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_json_is_all_there_is_on_stdout(run):
    code, out, err = run("compare", *SMALL, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["trials"] == {"planned": PLANNED, "done": PLANNED, "failed": 0}
    assert {row["norm"] for row in data["verdict"]["rows"]} == {"none", "graph"}
    assert data["command"].startswith("graphnorms compare MUTAG --norms none,graph")


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_resume_needs_no_options(run, in_this_process):
    run("compare", *SMALL, "--out", "here")
    code, out, _ = run("compare", "--resume", "--out", "here", "--json")
    assert code == 0
    assert json.loads(out)["settings"]["learning_rates"] == [0.003, 0.01]
    assert len(in_this_process) == PLANNED
    code, out, err = run("compare", "--resume", "--out", "here", "--epochs", "7")
    assert (code, out) == (2, "")
    assert err == (
        "graphnorms: here holds a run with other settings (epochs: 1 there, 7 here); "
        "choose another folder, e.g. --out here-2\n"
    )
    code, out, err = run("compare", "--resume")
    assert (code, out) == (2, "")
    assert err == "graphnorms: runs/MUTAG-gin holds no run (config.json is missing)\n"


ROUNDS = {
    "nothing": [],
    "rates and norms with arguments": [
        "MUTAG",
        "--lr",
        "1e-5,0.003,1",
        "--norms",
        "pair:scale=2,eps=0.1,graph,group:num_groups=2",
    ],
    "a split": ["nci5k", "--protocol", "split", "--runs", "4", "--metric", "rmse"],
    "a random split": ["--protocol", "split", "--split", "random", "--budget", "full"],
    "treatments": ["--vary", "layers=2,3", "--vary", "weight-decay=0,1e-4", "--norms", "graph"],
    "the paper": [
        "--protocol",
        "paper",
        "--preset",
        "graphnorm-paper",
        "--folds",
        "4",
        "--margin",
        "0.02",
    ],
    "how it is read": [
        "nci5k",
        "--features",
        "degree",
        "--edge-features",
        "none",
        "--task",
        "regression",
        "--seed",
        "5",
        "--weight-decay",
        "1e-4",
        "--batch-size",
        "7",
    ],
    "architecture": [
        "--norm-place",
        "after-activation",
        "--residual",
        "before-norm",
        "--model",
        "gcn",
        "--layers",
        "3",
        "--hidden",
        "5",
        "--epochs",
        "9",
        "--device",
        "cpu",
    ],
    "spaces in the path": ["my data/it's one.npz", "--folds", "3"],
    "reading": [
        "my data/it's one.npz",
        "--folds",
        "3",
        "--drop-loops",
        "--keep-repeats",
        "--drop-empty",
        "--drop-rare",
        "2",
        "--features",
        "degree",
    ],
    "a factory": ["my_graphs:make", "--folds", "3"],
    "twins together": ["--features", "constant", "--group-twins", "--protocol", "paper"],
}


@pytest.mark.parametrize("arguments", ROUNDS.values(), ids=ROUNDS)
def test_the_command_that_is_printed_makes_the_same_settings(run, no_estimate, tmp_path, arguments):
    (tmp_path / "my data").mkdir()
    save_npz(load_dataset("MUTAG").subset(range(30)), tmp_path / "my data" / "it's one.npz")
    (tmp_path / "my_graphs.py").write_text(
        "from graphnorms.data import random_graphs\ndef make():\n    return random_graphs(30)\n"
    )
    code, out, err = run("compare", *arguments, "--dry-run", "--json")
    assert (code, err) == (0, "")
    plan = json.loads(out)
    words = shlex.split(plan["command"])
    assert words[:2] == ["graphnorms", "compare"]
    code, again, _ = run(*words[1:], "--dry-run", "--json")
    assert code == 0
    assert json.loads(again) == plan
    bare = {"--dry-run", "--json"}
    assert not bare & set(words)


def test_a_dry_run_trains_nothing_and_writes_nothing(run, in_this_process, tmp_path):
    code, out, err = run("compare", *SMALL, "--dry-run")
    assert (code, err) == (0, "")
    assert "= 12 trials, 1 at a time on cpu; kept in runs/MUTAG-gin" in flat(out)
    assert "The verdict will be inconclusive" in flat(out), "what can be seen is said before"
    assert " training steps of every norm: " in flat(out)
    assert max(map(len, out.splitlines())) <= 80
    code, out, err = run("compare", *SMALL, "--dry-run", "--json")
    assert (code, err) == (0, "")
    plan = json.loads(out)
    assert (plan["trials"], plan["folder"]) == (PLANNED, "runs/MUTAG-gin")
    assert plan["seconds"] > 0
    assert plan["settings"]["norms"] == ["none", "graph"]
    assert in_this_process == []
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_is_there_and_what_would_be_refused(run, in_this_process, stub_page):
    run("compare", *SMALL)
    trained, kept = len(in_this_process), Path("runs/MUTAG-gin/config.json").read_bytes()
    larger = ["--norms", "none,graph,pair", "--repeats", "2", "--margin", "0.02"]
    code, out, err = run("compare", *SMALL, *larger, "--dry-run")
    assert (code, err) == (0, "")
    assert "2 test folds, cut anew in each of 2 repeats" in flat(out)
    assert "4 folds (2 repeats of 2) are too few to judge over 3 pairs of norms" in flat(out)
    assert (
        "The run in runs/MUTAG-gin changes: norms + pair; repeats 1 → 2; margin not set → 0.02. "
        "12 of 36 trials are there already. About "
    ) in flat(out)
    _, out, _ = run("compare", *SMALL, *larger, "--dry-run", "--json")
    plan = json.loads(out)
    assert (plan["trials"], plan["there"], plan["refused"]) == (36, 12, "")
    assert plan["changes"][1] == "repeats 1 → 2"
    _, out, _ = run("compare", *SMALL, "--dry-run")
    assert flat(out).endswith("All 12 trials are there already."), "and no time is measured"
    code, out, _ = run("compare", *SMALL, "--epochs", "2", "--dry-run")
    assert code == 0
    assert (
        "Refused as it is: runs/MUTAG-gin holds a run with other settings (epochs: 1 there, 2"
        in (flat(out))
    )
    assert len(in_this_process) == trained
    assert Path("runs/MUTAG-gin/config.json").read_bytes() == kept


def test_show_and_report_judge_with_another_margin_and_keep_nothing(
    run, in_this_process, stub_page, monkeypatch
):
    """Eight folds, which are enough to judge."""
    run("compare", *SMALL, "--folds", "8", "--lr", "0.01")
    trained, kept = len(in_this_process), Path("runs/MUTAG-gin/config.json").read_bytes()
    code, out, err = run("show", "MUTAG-gin", "--margin", "0.2")
    assert (code, err) == (0, "")
    assert "--margin 0.2" in out
    assert "within 20 points" in flat(out)
    _, out, _ = run("show", "MUTAG-gin", "--json", "--margin", "0.2")
    assert json.loads(out)["verdict"]["margin"] == 0.2
    assert "within 1 point." in flat(run("show", "MUTAG-gin")[1])
    written = []
    page = SimpleNamespace(write_page=lambda *arguments, **_: written.append(arguments))
    monkeypatch.setitem(sys.modules, "graphnorms.report.page", page)
    code, _, err = run("report", "MUTAG-gin", "--margin", "0.2")
    assert (code, err) == (0, "")
    [(_, _, verdict, settings, command)] = written
    assert (verdict.margin, settings["margin"]) == (0.2, 0.2)
    assert "--margin 0.2" in command
    assert run("show", "MUTAG-gin", "--margin", "0")[2] == (
        "graphnorms: margin is 0.0, expected a number > 0\n"
    )
    assert len(in_this_process) == trained
    assert Path("runs/MUTAG-gin/config.json").read_bytes() == kept


def test_a_plan_says_that_the_paper_is_optimistic_and_a_split_one_split(run, no_estimate):
    _, out, _ = run("compare", "--protocol", "paper", "--dry-run")
    assert "OPTIMISTIC" in out
    _, out, _ = run("compare", "nci5k", "--protocol", "split", "--dry-run")
    assert "the split of the data" in flat(out)
    assert "scaffold" in out


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_narrow_outputs_are_respected(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for arguments in ([], ["norms"], ["compare", *SMALL, "--dry-run"], ["compare", *SMALL]):
        code, out, _ = run(*arguments)
        assert code == 0
        whole = ("report:", "figures:", "records:", " 1/12", " 2/12")
        lines = [
            line
            for line in out.splitlines()
            if not line.startswith(whole) and f"/{PLANNED}  " not in line
        ]
        assert max(map(len, lines)) <= 60


BAD_INPUT = {
    "norm": (["--norms", "none,grpah"], "unknown norm 'grpah'; did you mean graph"),
    "norm twice": (["--norms", "none,none"], "norm 'none' is named more than once"),
    "no norm": (["--norms", ","], "nothing to compare with 'none'; name a norm"),
    "norm's argument": (["--norms", "group:num_groups=7"], "64"),
    "protocol": (["--protocol", "nestd"], "unknown protocol 'nestd'; did you mean nested"),
    "budget": (["--budget", "big"], "unknown budget 'big'; known: quick, standard, full"),
    "model": (["--model", "gan"], "unknown model 'gan'; did you mean gin"),
    "no edge features": (["--model", "gine"], "the graphs have no edge features"),
    "preset": (
        ["--preset", "graphnorm"],
        "unknown preset 'graphnorm'; did you mean graphnorm-table or graphnorm-paper?",
    ),
    "data set": (["MUTTAG"], "unknown data set 'MUTTAG'; did you mean mutag"),
    "missing file": (["no/such/file.txt"], "no/such/file.txt"),
    "task": (["--task", "guess"], "unknown task 'guess'"),
    "features": (["--features", "attributes"], "data set 'MUTAG': no node attributes"),
    "metric": (["--metric", "mae"], "metric 'mae' does not score classification tasks"),
    "split": (["--protocol", "nested", "--split", "random"], "but it goes with protocol split"),
    "varied data": (["--vary", "features=labels,degree"], "vary has features, but it changes the"),
    "varied words": (["--vary", "layers"], "vary is 'layers', expected an option and its values"),
    "one value": (["--vary", "layers=4"], "vary has one value of layers, expected two or more"),
    "no split": (["--protocol", "split", "--split", "given"], "MUTAG comes without a split"),
    "folds": (["--folds", "1"], "folds is 1, expected an integer ≥ 2"),
    "folds of a split": (["--protocol", "split", "--folds", "3"], "folds is 3, but it goes with"),
    "too many folds": (["--folds", "64"], "64 folds need 64 or more members of every class"),
    "folds in words": (["--folds", "ten"], "Invalid value for '--folds'"),
    "runs": (["--runs", "0"], "runs is 0, expected an integer ≥ 1"),
    "epochs": (["--epochs", "0"], "epochs is 0, expected an integer ≥ 1"),
    "learning rate": (["--lr", "-1"], "learning_rate is -1.0, expected a number > 0"),
    "learning rate twice": (["--lr", "0.1,0.10"], "learning rate 0.1 is named more than once"),
    "learning rate in words": (["--lr", "fast"], "lr is 'fast', expected numbers"),
    "no learning rate": (["--lr", ","], "no learning rate; name at least one"),
    "weight decay": (["--weight-decay", "nan"], "weight_decay is nan, expected a number ≥ 0"),
    "margin": (["--margin", "0"], "margin is 0.0, expected a number > 0"),
    "batch size": (["--batch-size", "0"], "batch_size is 0, expected an integer ≥ 1"),
    "workers": (["--workers", "0"], "workers is 0, expected an integer ≥ 1"),
    "timeout": (["--timeout", "0"], "timeout is 0.0, expected a number > 0, in seconds"),
    "timeout in words": (["--timeout", "soon"], "Invalid value for '--timeout'"),
    "engine": (["--engine", "cloud"], "unknown engine 'cloud'; known: local, dask"),
    "no scheduler": (["--engine", "dask"], "the dask engine needs the address of a scheduler"),
    "device": (["--device", "toaster"], "device 'toaster' cannot be used"),
    "folder in use": (["--out", "here"], "here is not empty and holds no run"),
    "folder that cannot be": (["--out", "here/thesis.tex/run"], "thesis.tex"),
    "nothing to resume": (["--out", "there", "--resume"], "there holds no run (config.json is"),
    "option": (["--fold", "3"], "No such option: --fold"),
    "a word too many": (["MUTAG", "PTC"], "PTC"),
}


@pytest.mark.parametrize("dry", [[], ["--dry-run"], ["--json"]], ids=["run", "dry", "json"])
@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_on_stderr(run, tmp_path, no_estimate, arguments, message, dry):
    if dry == ["--dry-run"] and "--out" in arguments and "--resume" not in arguments:
        return  # a dry run does not ask whether it may write there
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.tex").touch()
    code, out, err = run("compare", *arguments, *dry)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("graphnorms: ")
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["here"], "nothing was begun"


WRONG_CALLS = {
    "data of no kind": ({"dataset": 5}, "dataset is 5, expected a name, a path, a GraphSet"),
    "no data": ({"dataset": []}, "the list of graphs is empty, expected at"),
    "norms of no kind": ({"norms": 5}, "norms is 5, expected"),
    "a norm of no kind": ({"norms": ["none", 5]}, "a norm is 5, expected a text, such as"),
    "folds of another kind": ({"folds": 2.0}, "folds is 2.0, expected an integer ≥ 1"),
    "folds true": ({"folds": True}, "folds is True, expected an integer ≥ 1"),
    "epochs in words": ({"epochs": "3"}, "epochs is '3', expected an integer ≥ 1"),
    "a seed below 0": ({"seed": -1}, "seed is -1, expected an integer ≥ 0"),
    "a seed in words": ({"seed": "x"}, "seed is 'x', expected an integer ≥ 0"),
    "batch size true": ({"batch_size": True}, "batch_size is True, expected an integer ≥ 1"),
    "batch size 2.0": ({"batch_size": 2.0}, "batch_size is 2.0, expected an integer ≥ 1"),
    "rates in words": ({"learning_rate": "0.1"}, "learning_rate is '0.1', expected a number > 0"),
    "margin beyond numbers": ({"margin": 10**400}, "margin is "),
    "workers in words": ({"workers": "2"}, "workers is '2', expected an integer ≥ 1"),
    "timeout in words": ({"timeout": "60"}, "timeout is '60', expected a number > 0, in seconds"),
    "timeout nan": ({"timeout": float("nan")}, "timeout is nan, expected a number > 0, in seconds"),
    "model of no kind": ({"model": 5}, "model is 5, expected"),
    "protocol of no kind": ({"protocol": 5}, "protocol is 5, expected"),
    "device of no kind": ({"device": 1.5}, "device is 1.5, expected"),
    "preset of no kind": ({"preset": 3}, "preset is 3, expected"),
    "scheduler for local": ({"scheduler": "tcp://x:1"}, "the engine is local"),
    "a folder of no kind": ({"out": 5}, "out is 5, expected"),
}


@pytest.mark.parametrize(("choices", "message"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_wrong_calls_are_one_line(tmp_path, monkeypatch, choices, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, GraphnormsError)) as caught:
        compare(**{"dataset": "MUTAG", "epochs": 1} | choices)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.mark.skipif(os.name == "nt", reason="the signals of POSIX")
@pytest.mark.parametrize("tries", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_ctrl_c_in_the_first_seconds_is_one_line(tmp_path, tries):
    """While Python's modules, torch and the data are loaded, and while workers start."""
    installed = str(Path(sys.executable).with_name("graphnorms"))
    commands = [[installed]] * Path(installed).exists() + [COMMAND]
    random = Random(tries)
    for number in range(tries):
        process = subprocess.Popen(
            [*random.choice(commands), "compare", "--epochs", "5000", "--workers", "2"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            # Python itself takes a moment; from there to the first trials.
            time.sleep(0.4 + 8 * (number + random.random()) / tries)
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
        assert errors.startswith("graphnorms: interrupted"), errors
        assert errors.count("\n") == 1
        assert process.returncode == 130


def test_names_steer_no_terminal(run, tmp_path, in_this_process, stub_page):
    name = "runs/\x1b[31mred\x07"
    compare("MUTAG", norms="graph", folds=2, epochs=1, learning_rate=0.01, out=name)
    for command in (["runs"], ["show", name], ["show", "\x1b]0;none\x07"]):
        code, out, err = run(*command)
        assert code == (2 if "none" in command[-1] else 0)
        assert not set("\x1b\x07") & set(out + err)
        assert "x1b" in out + err


def test_an_outcome_is_shown_though_its_page_cannot_be_written(run, monkeypatch, in_this_process):
    def full(self, path=None, *, figures=True):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphnorms.lab.comparison.Comparison.report", full)
    code, out, err = run("compare", *SMALL)
    assert code == 1
    assert flat(sentences(open_comparison("runs/MUTAG-gin").verdict).score) in flat(out)
    assert "records: runs/MUTAG-gin/records.jsonl" in out
    assert err.count("\n") == 1
    assert err.startswith("graphnorms: the report could not be written (OSError: [Errno 28] No sp")


def test_an_unknown_command_is_one_line(run):
    code, out, err = run("comapre")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "comapre" in err


def test_where_nothing_is_done_the_code_is_1(run, monkeypatch, in_this_process, stub_page):
    def failing(config, dataset, on_epoch=None):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("graphnorms.training.run_trial", failing)
    code, out, err = run("compare", *SMALL)
    assert (code, err) == (1, "")
    assert "failed: RuntimeError: out of luck" in out


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_other_settings_are_refused_with_a_way_out(run):
    run("compare", *SMALL)
    code, _, err = run("compare", *SMALL, "--epochs", "2")
    assert code == 2
    assert err == (
        "graphnorms: runs/MUTAG-gin holds a run with other settings (epochs: 1 there, 2 here); "
        "choose another folder, e.g. --out runs/MUTAG-gin-2\n"
    )


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_packages_are_found_by_their_names():
    code = (
        "import sys, graphnorms; assert 'graphnorms.data' not in sys.modules\n"
        "graphnorms.data.read_npz, graphnorms.testing.tolerance, graphnorms.training.load_model"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_runs_are_listed_and_shown_again(run, in_this_process, tmp_path, monkeypatch):
    code, out, err = run("runs")
    assert (code, out) == (2, "")
    assert err == "graphnorms: no runs: there is no folder runs\n"
    _, first, _ = run("compare", *SMALL)
    code, out, _ = run("runs")
    assert code == 0
    assert "MUTAG-gin" in out
    assert "12/12" in out
    with monkeypatch.context() as narrow:
        narrow.setenv("COLUMNS", "60")
        _, out, _ = run("runs")
    assert out.splitlines()[0].split() == ["run", "data", "trials", "last"]
    assert len(out.splitlines()) == 2, "no name is broken"
    _, out, _ = run("runs", "--json")
    assert [entry["complete"] for entry in json.loads(out)] == [True]
    code, out, _ = run("show", "MUTAG-gin")
    assert code == 0
    table = first[first.index("12/12") :].partition("\n")[2].partition("report:")[0]
    assert flat(table) in flat(out)
    for form in ("latex", "markdown", "csv"):
        code, out, err = run("show", "MUTAG-gin", f"--{form}")
        assert (code, err) == (0, "")
        assert out == open_comparison(tmp_path / "runs" / "MUTAG-gin").formatted(form)
    assert "exclude each other" in run("show", "MUTAG-gin", "--csv", "--json")[2]
    code, out, err = run("show", "MUTAG-gin", "--json", "--norm", "graph", "--export", "model")
    assert code == 0
    assert json.loads(out)["trials"]["done"] == PLANNED
    assert re.match(r"model:   model\n +norm graph, learning rate 0.01, fold 0, run 0 ", err)
    assert (tmp_path / "model").stat().st_size > 0
    for arguments, message in (
        (["show", "MUTAG-gan"], "MUTAG-gan holds no run (config.json is missing)"),
        (["show", "MUTAG-gin", "--norm", "graph"], "give --export FILE as well"),
        (["show", "MUTAG-gin", "--export", "x", "--norm", "batch"], "norm 'batch' was done"),
        (["show", "MUTAG-gin", "--export", "model/under-a-file"], "model"),
        (["show", "MUTAG-gin", "--export", "model.pt"], ".safetensors"),
        (["show", "MUTAG-gin", "--parquet", "trials.csv"], ".parquet"),
    ):
        code, _, err = run(*arguments)
        assert code == 2
        assert err.count("\n") == 1
        assert message in err


@pytest.mark.usefixtures("in_this_process", "stub_page")
def test_a_page_is_made_again_and_one_over_several(run, tmp_path):
    for place in ("one", "two"):
        run("compare", *SMALL, "--out", place)
    code, out, _ = run("report", "one", "-o", "again.html")
    assert code == 0
    assert "report: again.html" in flat(out)
    code, out, _ = run("report", "one", "two", "--out", "both.html")
    assert code == 0
    assert out.startswith("Over 2 data sets the comparison is inconclusive: ")
    assert "<h2>two</h2>" in (tmp_path / "both.html").read_text(encoding="utf-8")
    for arguments, message in (
        (["one", "two"], "2 runs make one page; say where it goes"),
        (["nowhere"], "nowhere holds no run"),
    ):
        code, _, err = run("report", *arguments)
        assert code == 2
        assert err.count("\n") == 1
        assert message in err


def test_a_fault_of_ours_is_one_line_too_unless_asked(run, monkeypatch):
    def fault(*_, **__):
        raise KeyError("what")

    monkeypatch.setattr("graphnorms.data.load_dataset", fault)
    code, _, err = run("compare")
    assert code == 3
    assert err.count("\n") == 1
    assert "internal error, KeyError: 'what'" in err
    monkeypatch.setenv("GRAPHNORMS_TRACEBACK", "1")
    with pytest.raises(KeyError):
        run("compare")


def test_without_typer_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "typer", None)
    code, _, err = run()
    assert code == 2
    assert err == "graphnorms: the command line needs typer: pip install 'graphnorms[lab]'\n"


def test_without_a_library_of_the_lab_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.model_selection", None)
    code, _, err = run("compare")
    assert code == 2
    assert err.count("\n") == 1
    assert "sklearn" in err
    assert "pip install 'graphnorms[lab]'" in err


def test_a_terminal_gets_colours_unless_no_color():
    def shown(**environment: str) -> str:
        done = subprocess.run(
            [*COMMAND],
            capture_output=True,
            text=True,
            env={**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", **environment},
        )
        return done.stdout

    assert "\x1b[1m" in shown()
    assert "\x1b[3" not in shown(NO_COLOR="1")


# In processes of their own, and with the real report.

LONGER = [
    "--norms",
    "none,graph",
    "--folds",
    "3",
    "--epochs",
    "12",
    "--lr",
    "0.003,0.01",
    "--layers",
    "2",
]
LONGER_PLANNED = 2 * 3 * (2 + 1)
RECORDS = Path("runs", "MUTAG-gin", "records.jsonl")
RESUME = [*COMMAND, "compare", "--resume", "--workers", "1"]


@pytest.fixture
def undisturbed(in_this_process, stub_page, tmp_path) -> list[dict]:
    """The records of the comparison that the tests below disturb."""
    found = compare(
        norms="none,graph",
        folds=3,
        epochs=12,
        learning_rate=(0.003, 0.01),
        layers=2,
        out=tmp_path / "calm",
    )
    assert len(found.records) == found.planned == LONGER_PLANNED
    return sorted_by_key(found.records)


def sorted_by_key(records) -> list[dict]:
    return sorted((record.without_timing() for record in records), key=lambda data: data["key"])


def count(path: Path, what: bytes = b"\n") -> int:
    return path.read_bytes().count(what) if path.exists() else 0


def kill_at(moment: int, command: list[str], folder: Path) -> None:
    """Start a command, and kill -9 it when there are so many records."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    wait_until(lambda: (folder / RECORDS).exists() and count(folder / RECORDS) >= moment, 60)
    process.kill()
    process.wait()


def resume(folder: Path, undisturbed: list[dict]) -> None:
    """Let --resume finish what is there: the outcome is that of a calm run."""
    before = count(folder / RECORDS)
    done = subprocess.run(RESUME, cwd=folder, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    if before < LONGER_PLANNED:
        kept = f"{before} of {LONGER_PLANNED} trials are there already."
        assert kept in flat(done.stdout)
    assert sorted_by_key(read_records(folder / RECORDS)) == undisturbed
    assert count(folder / RECORDS) == LONGER_PLANNED, "nothing was done twice"
    names = {path.name for path in (folder / RECORDS).parent.iterdir()}
    files = {"config.json", "run.toml", "records.jsonl", "judgement.json", "report.html"}
    assert names == files | {"report-figures"}
    report = (folder / RECORDS).with_name("report.html").read_text()
    assert report.lstrip().lower().startswith("<!doctype html>")


@pytest.mark.skipif(os.name != "posix", reason="terminals, Ctrl-C and SIGKILL are POSIX's")
def test_ctrl_c_at_a_terminal_then_kill_9_then_resume_are_a_calm_run(tmp_path, undisturbed):
    """A terminal of 50 columns, in which somebody presses Ctrl-C."""
    shown, error, code = press_ctrl_c_when(
        lambda: count(tmp_path / RECORDS, b'"stage":"final"') >= 1,
        ["compare", *LONGER, "--workers", "2"],
        tmp_path,
    )
    done = count(tmp_path / RECORDS)
    assert code == 130
    assert done < LONGER_PLANNED
    assert error == (
        f"graphnorms: interrupted: {done} of {LONGER_PLANNED} trials; "
        "run the same command again to continue\n"
    )
    assert "Ctrl-C keeps what" in shown
    assert "test accuracy" in shown, "a running leaderboard"
    assert "\x1b[?25l" in shown
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l"), "the cursor is there again"
    assert "report:" in shown[shown.rfind("\x1b[?25h") :], "what there is, is shown"

    kill_at(done + 1 + Random().randrange(LONGER_PLANNED - done - 2), RESUME, tmp_path)
    resume(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_kill_9_again_and_again_then_resume_is_a_calm_run(tmp_path, undisturbed):
    kill_at(0, [*COMMAND, "compare", *LONGER, "--workers", "2"], tmp_path)
    for moment in range(LONGER_PLANNED + 1):
        kill_at(moment, RESUME, tmp_path)
    resume(tmp_path, undisturbed)


def press_ctrl_c_when(condition, arguments: list[str], folder: Path) -> tuple[str, str, int]:
    """Run at a terminal, and press Ctrl-C: what the terminal shows, stderr, and the exit code."""
    import fcntl
    import pty
    import termios

    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, 50))
    script = (
        "import fcntl, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        "from graphnorms.cli import main; sys.exit(main())"
    )
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=environment,
        start_new_session=True,
        text=True,
        stdin=its_end,
        stdout=its_end,
        stderr=subprocess.PIPE,
    )
    os.close(its_end)
    fcntl.fcntl(terminal, fcntl.F_SETFL, os.O_NONBLOCK)
    shown = bytearray()

    def nobody_writes() -> bool:
        """Read what there is; whether the other end is closed."""
        try:
            while part := os.read(terminal, 1 << 16):
                shown.extend(part)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    wait_until(lambda: nobody_writes() or condition(), 60)
    os.write(terminal, b"\x03")
    wait_until(nobody_writes, 60)
    error = process.communicate(timeout=60)[1]
    os.close(terminal)
    wait_until(lambda: not group_exists(process.pid))
    return shown.decode(), error, process.returncode


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    """`graphnorms compare | head -n 1`"""
    process = subprocess.Popen(
        [*COMMAND, "compare", *SMALL],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().split()[:2] == ["data", "MUTAG,"]
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_an_output_that_takes_ascii_alone_gets_ascii(run, in_this_process, stub_page, tmp_path):
    run("compare", *SMALL)
    done = subprocess.run(
        [*COMMAND, "show", "MUTAG-gin"],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "graph" in done.stdout.decode("ascii")


def test_data_says_what_a_set_holds_and_allows(run):
    code, out, err = run("data", "MUTAG", "--folds", "5", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["folds"] == 5
    assert found["data"]["classes"] == {"-1": 63, "1": 125}
    assert found["data"]["structure"] == {"items": 79, "groups": 30, "contradicting": 13}
    assert 0.8 < found["baselines"]["size"] < 0.9
    code, out, err = run("data", "MUTAG")
    assert (code, err) == (0, "")
    assert "79 of 188 graphs are isomorphic to another, features ignored" in flat(out)


def test_data_says_what_repeats_can_show(run):
    once, thrice = (
        json.loads(run("data", "MUTAG", "--repeats", repeats, "--json")[1])["detectable"]
        for repeats in ("1", "3")
    )
    assert 0 < thrice < once
    code, _, err = run("data", "MUTAG", "--protocol", "split", "--repeats", "3")
    assert code == 2
    assert "repeats is 3" in err


def test_twins_are_kept_in_one_fold(run):
    bare = ("data", "MUTAG", "--features", "constant", "--edge-features", "none", "--json")
    left = json.loads(run(*bare)[1])
    together = json.loads(run(*bare, "--group-twins")[1])
    assert left["with_twin_in_training"] > 0
    assert together["with_twin_in_training"] == 0
    assert (left["group_twins"], together["group_twins"]) == (False, True)
    code, out, _ = run("compare", "--folds", "3", "--group-twins", "--dry-run")
    assert code == 0
    assert "3 test folds that keep twins together" in flat(out)
    assert "twins are kept in one fold; none of 188 tested graphs is isomorphic" in flat(out)
    code, _, err = run("compare", "nci5k", "--protocol", "split", "--group-twins", "--dry-run")
    assert code == 2
    assert "the split of nci5k is given; ask for --split random" in err


def test_data_takes_the_reading_options_of_compare(run):
    code, out, _ = run("data", "MUTAG", "--features", "constant", "--protocol", "split", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["features"] == "constant"
    assert found["data"]["twins"] == found["data"]["structure"]
    assert (found["protocol"], found["folds"]) == ("split", 1)
    code, _, err = run("data", "MUTAG", "--features", "nothing")
    assert code == 2
    assert "nothing" in err
