"""The facade, with real trials of a few epochs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from graphnorms import training
from graphnorms.comparison import Comparison, ComparisonInterrupted, compare
from graphnorms.data import load_dataset
from graphnorms.errors import RunExistsError
from graphnorms.lab.journal import read_records

SMALL = {"norms": ("none", "graph"), "folds": 3, "epochs": 2, "workers": 1}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Comparison:
    return compare("MUTAG", **SMALL, out=tmp_path_factory.mktemp("runs") / "mutag")


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    """The keys of the trials that are trained while a test runs."""
    keys = []
    run_trial = training.run_trial

    def counted(config, dataset, on_epoch=None):
        keys.append(config.key)
        return run_trial(config, dataset, on_epoch)

    monkeypatch.setattr(training, "run_trial", counted)
    return keys


@pytest.fixture
def stub_page(monkeypatch):
    """Write no real report, which takes seconds."""
    monkeypatch.setattr("graphnorms.report.page.write_page", lambda path, *_: path.touch())


def test_a_comparison_leaves_config_records_and_report(comparison):
    names = {path.name for path in comparison.folder.iterdir()}
    assert names == {"config.json", "records.jsonl", "report.html"}
    assert len(comparison.records) == comparison.planned == 6
    assert all(record.status == "done" for record in comparison.records)
    written = {record.key: record for record in read_records(comparison.folder / "records.jsonl")}
    assert written == {record.key: record for record in comparison.records}


def test_a_comparison_shows_itself(comparison):
    text = repr(comparison)
    assert "graph" in text
    assert comparison.verdict.accuracy_sentence[:20] in text
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    page = comparison._repr_html_()
    assert page.startswith("<pre")
    assert "graph" in page


def test_a_comparison_is_json(comparison):
    data = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert data["trials"] == {"planned": 6, "done": 6, "failed": 0}
    assert data["settings"]["epochs"] == 2
    assert data["verdict"]["rows"]


def test_the_report_goes_where_it_is_asked_to(comparison, tmp_path):
    path = comparison.report(tmp_path / "page.html")
    assert path.read_text().lstrip().lower().startswith("<!doctype html>")


def test_the_frame_has_a_row_per_trial(comparison):
    pytest.importorskip("pandas")
    frame = comparison.to_frame()
    assert len(frame) == 6
    assert set(frame["norm"]) == {"none", "graph"}
    assert frame["validation_accuracy"].between(0, 1).all()


def test_the_frame_without_pandas_says_what_to_install(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        comparison.to_frame()


@pytest.mark.usefixtures("stub_page")
def test_a_finished_comparison_trains_nothing_again(comparison, trained):
    again = compare("MUTAG", **SMALL, out=comparison.folder)
    assert trained == []
    assert again.records == comparison.records
    assert again.verdict == comparison.verdict


def test_other_settings_are_refused(comparison, trained):
    with pytest.raises(RunExistsError, match="epochs: 2 there, 3 here"):
        compare("MUTAG", **SMALL | {"epochs": 3}, out=comparison.folder)
    assert trained == []


@pytest.mark.usefixtures("stub_page")
def test_the_number_of_workers_changes_nothing(comparison, tmp_path):
    other = compare("MUTAG", **SMALL | {"workers": 2}, out=tmp_path / "run")
    assert [record.without_timing() for record in other.records] == [
        record.without_timing() for record in comparison.records
    ]


@pytest.mark.usefixtures("stub_page")
def test_an_interruption_keeps_what_is_done_and_the_same_call_continues(
    comparison, trained, tmp_path
):
    def interrupt(status):
        if len(status.records) == 4:
            raise KeyboardInterrupt

    with pytest.raises(ComparisonInterrupted, match=r"interrupted: 4 of 6 trials; run") as caught:
        compare("MUTAG", **SMALL, out=tmp_path / "run", progress=interrupt)
    assert isinstance(caught.value, KeyboardInterrupt)
    assert len(caught.value.comparison.records) == len(trained) == 4

    statuses = []
    whole = compare("MUTAG", **SMALL, out=tmp_path / "run", progress=statuses.append)
    assert len(trained) == len(set(trained)) == 6, "nothing was trained twice"
    assert statuses[0].plan.kept == 4
    assert [record.without_timing() for record in whole.records] == [
        record.without_timing() for record in comparison.records
    ]


@pytest.mark.usefixtures("stub_page")
def test_a_failing_trial_is_counted_and_stops_nobody(monkeypatch, tmp_path):
    run_trial = training.run_trial

    def failing(config, dataset, on_epoch=None):
        if config.norm == "graph" and config.fold == 0:
            raise RuntimeError("out of luck")
        return run_trial(config, dataset, on_epoch)

    monkeypatch.setattr(training, "run_trial", failing)
    comparison = compare("MUTAG", **SMALL, out=tmp_path / "run")
    assert comparison.to_dict()["trials"] == {"planned": 6, "done": 5, "failed": 1}
    assert "out of luck" in comparison.verdict.failure_sentence
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.usefixtures("stub_page")
def test_graphs_may_be_an_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graphs = load_dataset("MUTAG")
    comparison = compare(graphs, **SMALL)
    assert comparison.folder == Path("runs/MUTAG-gin")
    assert comparison.command.startswith("graphnorms.compare(dataset, ")


@pytest.mark.usefixtures("stub_page")
def test_status_counts_and_learns_the_time_left(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["graphnorms.comparison"], "_SECONDS_TO_KNOW_THE_SPEED", 0.0)
    statuses = []
    compare("MUTAG", **SMALL, out=tmp_path / "run", progress=statuses.append)
    assert [len(s.records) for s in statuses if s.latest] == [1, 2, 3, 4, 5, 6]
    assert statuses[0].remaining is None
    assert statuses[-1].remaining == 0
    assert statuses[0].plan.detectable > 0


@pytest.mark.slow
def test_kill_9_at_any_moment_then_the_same_command_gives_the_undisturbed_result(
    comparison, tmp_path
):
    command = [sys.executable, "-m", "graphnorms", "compare", "--norms", "none,graph"]
    command += ["--folds", "3", "--epochs", "2", "--workers", "2", "--out", str(tmp_path / "run")]
    for attempt in range(8):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        time.sleep(2 + 0.7 * attempt)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    records = read_records(tmp_path / "run" / "records.jsonl")
    assert {record.key: record.without_timing() for record in records} == {
        record.key: record.without_timing() for record in comparison.records
    }
    assert len((tmp_path / "run" / "records.jsonl").read_text().splitlines()) == 6
