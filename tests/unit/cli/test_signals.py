"""SIGTERM, as `timeout`, Slurm and `docker stop` send it, to whole commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from graphnorms.cli import main
from graphnorms.interrupts import Terminated, terminable
from graphnorms.lab.compare import compare
from graphnorms.lab.comparison import open_comparison
from graphnorms.lab.comparison_errors import ComparisonInterrupted

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the signals of POSIX")

COMMAND = [sys.executable, "-m", "graphnorms", "compare", "--workers", "2"]
MANY = [
    "--norms",
    "none,graph",
    "--folds",
    "10",
    "--epochs",
    "3",
    "--lr",
    "0.003,0.01",
    "--hidden",
    "8",
    "--layers",
    "1",
    "--out",
    "run",
]
PLANNED = 2 * 10 * (2 + 1)


@contextmanager
def started(arguments: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=folder,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()


def require_no_process(group: int) -> None:
    """Wait until no process is left of those that were started."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a process lives on")


@pytest.mark.parametrize("tries", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_sigterm_in_the_first_seconds_is_one_line(tmp_path: Path, tries: int) -> None:
    """While Python's modules, torch and the data are loaded, and while workers start."""
    random = Random(tries)
    for number in range(tries):
        with started(["--epochs", "5000"], tmp_path) as process:
            time.sleep(0.6 + 8 * (number + random.random()) / tries)
            os.killpg(process.pid, signal.SIGTERM)
            _, errors = process.communicate(timeout=120)
        assert errors.startswith("graphnorms: terminated"), errors
        assert errors.count("\n") == 1
        assert process.returncode == 143
        require_no_process(process.pid)


def test_a_signal_while_a_module_loads_is_no_missing_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What pybind11 raises of it: SciPy's modules load in the first seconds of a comparison."""

    def load(name: str) -> None:
        raise ImportError("initialization failed") from Terminated()

    monkeypatch.setattr("graphnorms.cli.app.load", load)
    monkeypatch.setattr(sys, "argv", ["graphnorms", "compare"])
    assert main() == 143
    assert capsys.readouterr().err == "graphnorms: terminated\n"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("to", ["command", "group, twice"])
def test_sigterm_keeps_what_is_done_and_shows_it(tmp_path: Path, to: str) -> None:
    """`timeout` sends it to the whole group, and to the command once more."""
    with started(MANY, tmp_path) as process:
        while (tmp_path / "out").read_text().count("  final  ") < 3:
            assert process.poll() is None
            time.sleep(0.1)
        if to == "command":
            process.terminate()
        else:
            os.killpg(process.pid, signal.SIGTERM)
            process.terminate()
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    require_no_process(process.pid)
    told = re.fullmatch(r"graphnorms: terminated: (\d+) of (\d+) trials; run the .*\n", errors)
    assert told, errors
    done = int(told[1])
    assert int(told[2]) == PLANNED
    output = (tmp_path / "out").read_text()
    assert "report:  run/report.html" in output
    missing = re.search(r"Not run: (\d+) of (\d+)\s+trials", output)
    assert missing, output
    assert (int(missing[1]) + done, int(missing[2])) == (PLANNED, PLANNED)
    comparison = open_comparison(tmp_path / "run")
    assert len(comparison.records) == done
    assert {record.status for record in comparison.records} == {"done"}


@pytest.mark.usefixtures("stub_page", "in_this_process")
def test_sigterm_ends_a_call_from_python(tmp_path: Path) -> None:
    """Also in this process, where trials catch whatever is raised in them."""
    handler = signal.getsignal(signal.SIGTERM)
    calls = 0

    def progress(status) -> None:
        nonlocal calls
        calls += 1
        if status.ended == 2:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    options = {"folds": 2, "epochs": 1, "learning_rate": 0.01, "hidden": 4, "layers": 1}
    with pytest.raises(ComparisonInterrupted, match="terminated: 2 of 4 trials") as caught:
        compare("MUTAG", norms="none,graph", out=tmp_path / "run", progress=progress, **options)
    assert caught.value.code == 143
    assert len(caught.value.comparison.records) == 2
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_handler_of_the_users_stays() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with terminable():
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(Terminated), terminable():
        signal.raise_signal(signal.SIGTERM)
