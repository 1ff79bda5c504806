"""A run's folder: made, continued, refused."""

from __future__ import annotations

import json

import pytest

from graphnorms.errors import GraphnormsError, RunExistsError
from graphnorms.lab.runs import Run, default_folder, read_config, replacing
from graphnorms.training.record import Record

CONFIG = {"dataset": "toy", "norms": ("none", "graph"), "epochs": 5, "architecture": {"layers": 4}}


def test_the_same_settings_continue_a_run(tmp_path):
    folder = tmp_path / "runs" / "toy-gin"
    record = Record(key="0" * 16, config={}, status="done")
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
        ({"norms": ("graph",)}, "norms: none,graph there, graph here"),
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
