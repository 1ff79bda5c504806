"""A run's folder: made, continued, refused."""

from __future__ import annotations

import json
from contextlib import closing
from itertools import islice

import pytest
from tests.faults import make_config

from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.lab.engines import OUT_OF_MEMORY, WORKER_DIED, ThisProcess
from graphnorms.lab.journal import read_records
from graphnorms.lab.run import Run, default_folder, read_config, replacing
from graphnorms.training.record import Record

CONFIG = {"dataset": "toy", "norms": ("none", "graph"), "epochs": 5, "architecture": {"layers": 4}}


def record_of(config, status="done", reason="") -> Record:
    return Record(key=config.key, config=config.to_dict(), status=status, reason=reason)


def test_the_same_settings_continue_a_run(tmp_path):
    folder = tmp_path / "runs" / "toy-gin"
    record = record_of(make_config())
    with Run(folder, CONFIG) as run:
        run.journal.append(record)
    with Run(folder, json.loads(json.dumps(CONFIG))) as run:
        assert list(run.journal) == [record]
    assert read_config(folder)["norms"] == ["none", "graph"]
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "records.jsonl"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 6}, "epochs: 5 there, 6 here"),
        ({"architecture": {"layers": 8}}, "layers: 4 there, 8 here"),
        ({"learning_rate": 0.1}, "learning rate: not set there, 0.1 here"),
    ],
)
def test_other_settings_are_refused_and_named(tmp_path, change, words):
    folder = tmp_path / "toy-gin"
    Run(folder, CONFIG).journal.close()
    (tmp_path / "toy-gin-2").mkdir()
    with pytest.raises(RunExistsError) as caught:
        Run(folder, {**CONFIG, **change})
    message = str(caught.value)
    assert words in message
    assert f"--out {tmp_path / 'toy-gin-3'}" in message
    assert "\n" not in message
    with Run(folder, CONFIG):
        pass  # the refusal changed nothing and left nothing locked


class Engine(ThisProcess):
    """Notes which trials it ran."""

    def __init__(self, statuses=()):
        self.ran = []
        self.statuses = dict(statuses)
        super().__init__(self.trial, None)

    def trial(self, config, dataset, on_epoch):
        self.ran.append((config.stage, config.norm, config.run))
        return record_of(config, *self.statuses.get(self.ran[-1], ["done"]))


def select(norms=("none", "graph")):
    return [make_config(run, norm) for run in range(2) for norm in norms]


def final_trials(run):
    """When both selections of a norm have an outcome, its final trials follow."""

    def then(record):
        norm = record.config["norm"]
        if record.config["stage"] == "final" or any(
            run.journal.get(config.key) is None for config in select([norm])
        ):
            return []
        return [make_config(number, norm, "final") for number in range(2)]

    return then


def complete(folder, engine, stop_after=None):
    """Run it all, or the first records only, and return them in the order they came in."""
    with Run(folder, CONFIG) as run:
        records = run.complete(engine, select(), then=final_trials(run))
        with closing(records):
            return list(islice(records, stop_after))


ALL = {(config.stage, config.norm, config.run) for config in select()} | {
    ("final", norm, run) for norm in ("none", "graph") for run in range(2)
}


def test_a_run_is_complete_when_what_follows_from_its_records_is_done(tmp_path):
    engine = Engine()
    records = complete(tmp_path / "run", engine)
    assert len(engine.ran) == len(records) == 8
    assert set(engine.ran) == ALL
    assert read_records(tmp_path / "run" / "records.jsonl") == records
    assert complete(tmp_path / "run", engine) == []
    assert len(engine.ran) == 8


@pytest.mark.parametrize("stopped_after", range(9))
def test_wherever_a_run_is_stopped_it_goes_on_there(tmp_path, stopped_after):
    engine = Engine()
    first = complete(tmp_path, engine, stopped_after)
    assert len(first) == stopped_after
    rest = complete(tmp_path, engine)
    assert len(first) + len(rest) == 8
    assert len(engine.ran) == 8, "nothing is done twice"
    assert set(engine.ran) == ALL, "nothing is lost"


def test_what_died_is_tried_again_when_a_run_is_continued_and_what_failed_is_not(tmp_path):
    statuses = {
        ("select", "none", 0): ("failed", f"{WORKER_DIED} twice (SIGKILL)"),
        ("select", "none", 1): ("failed", OUT_OF_MEMORY),
        ("select", "graph", 0): ("failed", "ValueError: no"),
    }
    first, second = Engine(statuses), Engine()
    complete(tmp_path, first)
    with Run(tmp_path, CONFIG) as run:
        assert run.journal.get(make_config(0, "none").key) is None
        assert len(run.journal) == 6
    complete(tmp_path, second)
    assert set(first.ran) == ALL, "they stopped nobody, nor what follows"
    assert set(second.ran) == {("select", "none", 0), ("select", "none", 1)}
    assert [record.status for record in read_records(tmp_path / "records.jsonl")].count("done") == 7


def test_a_run_in_use_is_refused(tmp_path):
    with Run(tmp_path / "run", CONFIG), pytest.raises(RunExistsError, match="in use"):
        Run(tmp_path / "run", CONFIG)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunExistsError, match="not empty and holds no run"):
        Run(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunExistsError, match="is a file"):
        Run(tmp_path / "thesis.tex", CONFIG)


def test_a_folder_left_by_a_process_killed_at_its_start_is_used(tmp_path):
    (tmp_path / ".config.json.123").write_text('{"half')
    with Run(tmp_path, CONFIG) as run:
        assert len(run.journal) == 0


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(GraphnormsError, match=r"config\.json: not the config of a run"):
        Run(tmp_path, CONFIG)


def test_reading_a_folder_without_a_run_says_so(tmp_path):
    with pytest.raises(GraphnormsError, match="holds no run"):
        read_config(tmp_path)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_folder_is_named_after_data_and_model():
    assert default_folder("MUTAG", "gin").as_posix() == "runs/MUTAG-gin"
    assert default_folder("MUTAG", "gcn", "graphnorm-paper").name == "MUTAG-gcn-graphnorm-paper"
    assert default_folder("../my set", "gin").name == "_my_set-gin"


@pytest.mark.parametrize("letter", ["x", "é", "漢"])
def test_names_that_are_too_long_for_a_folder_are_cut_and_told_apart(tmp_path, letter):
    one, other = default_folder(300 * letter, "gin"), default_folder(301 * letter, "gin")
    assert one != other
    assert default_folder(300 * letter, "gin") == one
    assert len(one.name.encode()) < 128
    (tmp_path / one.name).mkdir()
    assert default_folder("a/\x1b[31m", "gin").name == "a_31m-gin"
