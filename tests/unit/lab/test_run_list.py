"""What lies in a folder of runs, whole and damaged."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest
from tests.faults import make_config

from graphnorms.errors import GraphnormsError
from graphnorms.lab.run import Run
from graphnorms.lab.run_list import list_runs, open_run
from graphnorms.training.record import Record

CONFIG = {
    "dataset": "MUTAG",
    "protocol": "nested",
    "budget": "quick",
    "norms": ["none", "graph"],
    "model": "gin",
    "preset": "default",
    "architecture": {},
    "metric": "accuracy",
    "unit": "",
    "split": "fold",
    "folds": 5,
    "runs": 1,
    "selection_runs": 1,
    "holdout": 0.1,
    "split_seed": 0,
    "seed": 0,
    "epochs": 3,
    "batch_size": 8,
    "learning_rates": [0.001, 0.01],
    "schedule": "linear",
    "weight_decay": 0.0,
    "margin": None,
    "device": "cpu",
    "something of a later version": {"a": 1},
}


def make_run(folder, records: int = 3, config=CONFIG) -> list[Record]:
    with Run(folder, config) as run:
        for number in range(records):
            trial = make_config(number)
            status = "failed" if number == 0 else "done"
            run.journal.append(Record(key=trial.key, config=trial.to_dict(), status=status))
        return list(run.journal)


def test_runs_are_listed_the_latest_first(tmp_path):
    make_run(tmp_path / "old", 3)
    make_run(tmp_path / "new", 30)
    make_run(tmp_path / "begun", 0)
    (tmp_path / "old" / "report.html").write_text("later than its records")
    for age, name in ((100, "old"), (10, "new")):
        os.utime(tmp_path / name / "records.jsonl", (2e9 - age, 2e9 - age))
    os.utime(tmp_path / "begun" / "records.jsonl", (2e9 - 50, 2e9 - 50))

    found = list_runs(tmp_path)
    assert [run.folder.name for run in found] == ["new", "begun", "old"]
    new, begun, old = found
    assert (old.dataset, old.model, old.protocol, old.budget) == ("MUTAG", "gin", "nested", "quick")
    assert old.norms == ("none", "graph")
    assert (old.done, old.failed, old.planned, old.complete) == (2, 1, 30, False)
    assert old.written == datetime.fromtimestamp(2e9 - 100, UTC)
    assert (new.done, new.failed, new.complete) == (29, 1, True)
    assert (begun.done, begun.failed, begun.complete) == (0, 0, False)
    assert not any(run.problem for run in found)
    assert list_runs(tmp_path / "old") == [old], "a run itself is a list of one"
    told = json.loads(json.dumps(old.to_dict()))
    assert told["written"] == "2033-05-18T03:31:40+00:00"
    assert told["folder"] == str(tmp_path / "old")


def test_what_is_damaged_or_no_run_breaks_nothing(tmp_path):
    make_run(tmp_path / "good")
    make_run(tmp_path / "changed")
    journal = tmp_path / "changed" / "records.jsonl"
    journal.write_text(journal.read_text().replace('"failed"', '"done"', 1))
    make_run(tmp_path / "torn")
    with (tmp_path / "torn" / "records.jsonl").open("a") as file:
        file.write('{"key":"ab')
    for name, text in {"half": "{", "list": "[]", "other": '{"norms": 5, "folds": "x"}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "config.json").write_bytes(b"\xff\xfe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "note.txt").write_text("buy milk")

    damaged = (
        "config.json: not the config of a run, the file is damaged; restore it, or begin a run in "
        "another folder"
    )
    runs = {run.folder.name: run for run in list_runs(tmp_path)}
    assert {name: run.problem for name, run in runs.items() if run.problem} == {
        "changed": "records.jsonl, line 1: a trial record that is not as it was written; "
        "the file was changed by something else: restore it, or delete that line, and its trial is "
        "run again when the run is continued",
        "half": damaged,
        "list": damaged,
        "bytes": damaged,
        "empty": "holds no run (config.json is missing)",
        "thesis": "holds no run (config.json is missing)",
        "folder": "config.json: Is a directory",
    }
    assert runs["changed"].dataset == "MUTAG"
    assert (runs["torn"].done, runs["torn"].failed) == (2, 1)
    assert (runs["other"].planned, runs["other"].norms) == (None, ())
    assert set(runs) == {
        "good",
        "changed",
        "torn",
        "half",
        "list",
        "other",
        "empty",
        "thesis",
        "bytes",
        "folder",
    }


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"protocol": 5}, "protocol is 5, expected text"),
        ({"learning_rates": ["a"]}, "learning_rates is 'a', expected a number > 0"),
        ({"learning_rates": 3}, "learning_rates is 3, expected a list; each entry a number > 0"),
        ({"norms": {"none": 1}}, "norms is {'none': 1}, expected a list; each entry text"),
        ({"folds": 1e400}, "folds is inf, expected an integer ≥ 1"),
        ({"dataset": None}, "dataset is None, expected text"),
    ],
)
def test_one_damaged_config_is_listed_as_damaged_and_hides_no_other(tmp_path, change, problem):
    make_run(tmp_path / "good")
    make_run(tmp_path / "bad", config=CONFIG | change)
    runs = {run.folder.name: run for run in list_runs(tmp_path)}
    assert runs["bad"].problem == f"config.json: {problem}; the file is damaged"
    assert runs["good"].problem == ""
    assert runs["good"].done == 2


def test_a_config_that_is_nested_without_end_is_damaged(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_text("[" * 100_000)
    (found,) = list_runs(tmp_path)
    assert "not the config of a run" in found.problem


def test_no_folder_is_one_error(tmp_path):
    with pytest.raises(GraphnormsError, match="no runs: there is no folder"):
        list_runs(tmp_path / "runs")


def test_a_run_is_opened_also_while_it_is_going_on(tmp_path):
    records = make_run(tmp_path / "run")
    with Run(tmp_path / "run", CONFIG):
        config, found = open_run(tmp_path / "run")
    assert config == CONFIG
    assert found == records
    (tmp_path / "run" / "records.jsonl").unlink()  # killed before the journal was begun
    assert open_run(tmp_path / "run") == (CONFIG, [])
    with pytest.raises(GraphnormsError, match="holds no run"):
        open_run(tmp_path)
