"""Logs of trials, read back by the libraries they are for.

TensorBoard is among the packages of `dev`. MLflow and W&B are large, and are tested where they are
installed: `pip install -c constraints.txt 'graphnorms[mlflow,wandb]'`.
"""

from __future__ import annotations

import json
import logging
import re
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.records import synthetic_records

from graphnorms.errors import GraphnormsError
from graphnorms.lab.compare import compare
from graphnorms.lab.log_trials import Logging, log_all, trackers_of
from graphnorms.lab.trackers import Tracker, logged
from graphnorms.training import content_hash

EPOCHS = 4


@pytest.fixture(scope="module")
def records():
    """Two norms on two folds, of which one trial failed and one has a loss that is not finite."""
    found = synthetic_records(("none", "graph"), folds=2, rates=(0.01,), epochs=EPOCHS)
    found = [
        replace(record, key=content_hash(record.config))
        for record in found
        if record.config["stage"] == "final"
    ]
    lost = {name: [*values[:-1], None] for name, values in found[1].history.items()}
    found[1] = replace(found[1], history=lost)
    found[2] = replace(found[2], status="failed", reason="no good", outcome={}, history={})
    return found


def test_what_is_logged_of_a_record(records):
    trial = logged(records[0])
    assert trial.key == records[0].key
    assert trial.name == "none-final-split9-fold0-run0-lr0.01"
    assert trial.parameters["norm"] == "none"
    assert trial.parameters["split.fold"] == 0
    assert trial.curves == records[0].history
    assert trial.scores["best/test_score"] == records[0].outcome["test_score"]
    assert len({logged(record).name for record in records}) == len(records)


def test_names_that_no_library_takes(records):
    strange = replace(
        records[0],
        config=records[0].config | {"norm": "my_norms:Centred:gain=0.5"},
        target_scores={"test": {"µ (Debye), 20 °C": 1.5}},
    )
    trial = logged(strange)
    assert "/" not in trial.name
    assert ":" not in trial.name
    assert 1.5 in trial.scores.values()
    assert all(re.fullmatch(r"[\w./ -]+", name) for name in trial.scores)


def test_tensorboard(records, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trackers = trackers_of("tensorboard", tmp_path / "run")
    assert list(log_all(records, trackers)) == [("tensorboard", len(records))]
    folders = sorted((tmp_path / "run" / "tensorboard").iterdir())
    assert len(folders) == len(records)
    by_key = {folder.name.rpartition("-")[2]: folder for folder in folders}
    for record in records:
        events = reader.EventAccumulator(str(by_key[record.key]))
        events.Reload()
        scalars = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
        for name, values in record.history.items():
            assert [each.step for each in scalars[name]] == [
                epoch for epoch, value in enumerate(values, 1) if value is not None
            ]
            assert [each.value for each in scalars[name]] == pytest.approx(
                [value for value in values if value is not None]
            )
        for name, value in record.outcome.items():
            assert scalars[f"best/{name}"][0].value == pytest.approx(value)
        text = events.Tensors("status/text_summary")[0].tensor_proto.string_val[0].decode()
        assert text == ("failed: no good" if record.status == "failed" else "done")
        assert events.PluginTagToContent("hparams")
    assert list(log_all(records, trackers_of("tensorboard", tmp_path / "run"))) == [
        ("tensorboard", 0)
    ]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader")  # of mlflow 3.17 with SQLAlchemy 2.1
def test_mlflow(records, tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow import MlflowClient

    place = f"sqlite:///{tmp_path}/mlflow.db"
    assert list(log_all(records, trackers_of(f"mlflow:{place}", tmp_path / "run"))) == [
        ("mlflow", len(records))
    ]
    client = MlflowClient(place)
    experiment = client.get_experiment_by_name("graphnorms/run")
    runs = {
        r.data.tags["graphnorms.key"]: r for r in client.search_runs([experiment.experiment_id])
    }
    assert runs.keys() == {record.key for record in records}
    for record in records:
        run = runs[record.key]
        assert run.info.status == ("FAILED" if record.status == "failed" else "FINISHED")
        assert run.data.params["norm"] == record.config["norm"]
        assert float(run.data.params["learning_rate"]) == record.config["learning_rate"]
        for name, values in record.history.items():
            history = client.get_metric_history(run.info.run_id, name)
            assert {each.step: each.value for each in history} == {
                epoch: value for epoch, value in enumerate(values, 1) if value is not None
            }
        for name, value in record.outcome.items():
            assert run.data.metrics[f"best/{name}"] == value
    again = trackers_of(f"mlflow:{place}", tmp_path / "run")
    assert list(log_all(records, again)) == [("mlflow", 0)]


def entries(content: bytes) -> Iterator[bytes]:
    """The entries of a file of W&B, which has the blocks and headers of LevelDB's logs."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the whole entry, or its last part
            yield whole
            whole = b""


def test_wandb_offline(records, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert list(log_all(records[:3], trackers_of("wandb:team/project", tmp_path / "run"))) == [
        ("wandb", 3)
    ]
    wandb.teardown()  # the files are complete a moment after a run's `finish`, and then for sure
    for record in records[:3]:
        (file,) = tmp_path.glob(f"wandb/offline-run-*{record.key}/*.wandb")
        rows, scores, code, begun = [], {}, None, []
        for entry in entries(file.read_bytes()):
            found = wandb_internal_pb2.Record()
            found.ParseFromString(entry)
            kind = found.WhichOneof("record_type")
            if kind == "run":
                begun.append((found.run.entity, found.run.project, found.run.run_group))
                names = {item.key: json.loads(item.value_json) for item in found.run.config.update}
            elif kind == "history":
                rows.append(
                    {i.key or i.nested_key[0]: json.loads(i.value_json) for i in found.history.item}
                )
            elif kind == "summary":
                scores |= {i.key: i.value_json for i in found.summary.update}
            elif kind == "exit":
                code = found.exit.exit_code
        assert begun[0] == ("team", "project", "run")
        assert names["learning_rate"] == record.config["learning_rate"]
        assert code == (1 if record.status == "failed" else 0)
        for name, values in record.history.items():
            assert [row.get(name) for row in rows] == values
        for name, value in record.outcome.items():
            assert json.loads(scores[f"best/{name}"]) == value
    assert list(log_all(records[:3], trackers_of("wandb", tmp_path / "run"))) == [("wandb", 0)]


def test_unknown_and_missing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="unknown log 'tensorbord'; did you mean tensorboard"):
        trackers_of("tensorbord", tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError, match=r"pip install 'graphnorms\[mlflow\]'"):
        trackers_of(["mlflow:http://localhost"], tmp_path)


class Fake(Tracker):
    """Notes what it gets; fails, or waits, at the second trial."""

    name = "fake"

    def __init__(self, folder, fails=False, waits=None):
        super().__init__("", folder)
        self.fails, self.waits, self.keys = fails, waits, []

    def check(self):
        """Nothing is missing."""

    def connect(self):
        """There is nothing to find."""

    def has(self, key):
        return key in self.keys

    def add(self, trial):
        if self.keys and self.fails:
            raise OSError("the server has gone")
        if self.keys and self.waits:
            self.waits.wait()
        self.keys.append(trial.key)


def test_a_tracker_that_fails_is_told_once_and_harms_no_other(records, tmp_path, caplog):
    broken, well = Fake(tmp_path, fails=True), Fake(tmp_path)
    with caplog.at_level(logging.WARNING, "graphnorms"), Logging([broken, well]) as logging_trials:
        for record in [*records, *records]:
            logging_trials.add(record)
    assert well.keys == [record.key for record in records], "each once"
    assert len(broken.keys) == 1
    (told,) = [record.getMessage() for record in caplog.records]
    assert "the server has gone" in told
    assert "graphnorms show" in told
    with pytest.raises(GraphnormsError, match="fake does not log: OSError: the server has gone"):
        list(log_all(records, [broken]))


def test_a_tracker_that_hangs_is_not_waited_for(records, tmp_path, caplog):
    gone = threading.Event()
    slow = Fake(tmp_path, waits=gone)
    with (
        caplog.at_level(logging.WARNING, "graphnorms"),
        Logging([slow], patience=0.2) as logging_trials,
    ):
        for record in records:
            logging_trials.add(record)
    gone.set()
    assert ["it takes too long" in record.getMessage() for record in caplog.records] == [True]


def test_a_comparison_is_logged_while_it_runs(tmp_path, in_this_process, stub_page):
    pytest.importorskip("tensorboard")
    small = {"norms": "graph", "folds": 2, "epochs": 1, "learning_rate": 0.01, "hidden": 4}
    place = tmp_path / "logs"
    found = compare("MUTAG", **small, out=tmp_path / "run", log=f"tensorboard:{place}")
    there = {path.name.rpartition("-")[2] for path in (place / "run").iterdir()}
    assert there == {record.key for record in found.records}
