"""What compare says by -q, -v and --time, and what the file of --log-file has."""

from __future__ import annotations

import logging
import re
import sys
from concurrent.futures import Future

import pytest
from tests.faults import make_config

from graphnorms import cli
from graphnorms.lab import duration, engines
from graphnorms.lab.duration import Expectation
from graphnorms.lab.engines.attempt import DiedError
from graphnorms.lab.engines.engine import _Ends
from graphnorms.training import Pace

SMALL = ["--norms", "graph", "--folds", "2", "--epochs", "1", "--lr", "0.01", "--hidden", "8"]
TRIALS = 4


@pytest.fixture
def run(monkeypatch, capsys, tmp_path, in_this_process, stub_page):
    """Run the command line in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graphnorms", *arguments])
        code = cli.main()
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_quiet_says_the_verdict_only(run):
    code, out, err = run("compare", *SMALL, "-q")
    assert (code, err) == (0, "")
    assert out.startswith("Test accuracy: inconclusive")
    assert len(out.splitlines()) <= 3


def test_the_log_file_has_every_trial_with_times(run, tmp_path):
    run("compare", *SMALL, "-q", "--log-file", "logs/run.log")
    lines = (tmp_path / "logs" / "run.log").read_text().splitlines()
    timed = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING)")
    assert all(map(timed.match, lines))
    assert "graphnorms compare MUTAG" in lines[0]
    assert sum("INFO" in line and f"/{TRIALS}" in line for line in lines) == TRIALS
    run("compare", *SMALL, "-q", "--log-file", "logs/run.log")
    assert len((tmp_path / "logs" / "run.log").read_text().splitlines()) > len(lines), "added"


def test_a_trial_is_said_once(run):
    for option in ((), ("-v",)):
        _, out, _ = run("compare", *SMALL, *option, "--out", f"run{len(option)}")
        assert sum(f"/{TRIALS}  final" in line for line in out.splitlines()) == TRIALS


def test_failed_trials_and_errors_are_in_the_file(run, tmp_path, monkeypatch):
    code, _, err = run("compare", *SMALL, "--lr", "1e30", "-q", "--log-file", "log")
    assert code == 1
    text = (tmp_path / "log").read_text()
    assert text.count("WARNING") >= TRIALS
    assert "was not finite" in text
    code, _, err = run("compare", "--norms", "grph", "--log-file", "log")
    assert code == 2
    assert err.count("\n") == 1
    assert "ERROR" in (tmp_path / "log").read_text()


def test_both_at_once_are_refused(run):
    assert run("compare", "-q", "-v")[0] == 2


def test_a_command_leaves_logging_as_it_was(run):
    logger = logging.getLogger("graphnorms")
    before = logger.level, logger.propagate, logger.handlers[:]
    run("compare", *SMALL, "-v", "--log-file", "log")
    assert (logger.level, logger.propagate, logger.handlers) == before


def test_a_long_dry_run_says_what_fits_into_an_hour(run, monkeypatch):
    pace = Pace(start=0.0, step=1.0, evaluation=0.0, steps=3, steps_per_epoch=2)
    paces = {"none": pace, "graph": pace}

    def estimate(plan, kept=()):
        seconds = 2.0 * plan.settings.planned * plan.settings.epochs
        return Expectation(seconds=seconds, steps=3, quickest=1.0, slowest=1.0, paces=paces)

    monkeypatch.setattr(duration, "estimate", estimate)
    long = ["compare", "--norms", "graph", "--workers", "1", "--dry-run"]
    assert "--time 1h would cut" in run(*long)[1]
    assert "--time 1h would cut" not in run(*long, "--epochs", "20", "--lr", "0.01")[1]
    code, out, err = run(*long, "--time", "30m")
    assert (code, err) == (0, "")
    assert "planned for 30 min, expected to take" in out
    code, _, err = run(*long, "--time", "soon")
    assert (code, err.count("\n")) == (2, 1)
    assert "expected a time such as 1h" in err


def test_a_worker_that_dies_is_told(caplog):
    future: Future = Future()
    future.set_exception(DiedError("SIGKILL(-9)", begun=True))
    with caplog.at_level(logging.WARNING, "graphnorms"):
        assert (
            _Ends().record_or_none(future, make_config(), engines.ThisProcess(None, None)) is None
        )
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "SIGKILL(-9)" in record.getMessage()
    assert "run again" in record.getMessage()
