"""What may change in a run's folder, and what is refused, in words."""

from __future__ import annotations

import json

import pytest
from tests.faults import make_config

from graphnorms.errors import RunExistsError
from graphnorms.lab.run import Run, read_config, standing
from graphnorms.lab.run_changes import change_of
from graphnorms.training.record import Record

CONFIG = {
    "dataset": "toy",
    "norms": ["none", "graph"],
    "runs": 2,
    "repeats": 2,
    "split_seed": 0,
    "epochs": 5,
    "batch_size": 8,
    "margin": None,
    "model": "gin",
    "architecture": {"layers": 4},
    "trivial": {"held_out": [0.5]},
}


def record_of(run: int, norm: str, repeat: int) -> Record:
    split = {"kind": "fold", "folds": 10, "fold": 0, "seed": repeat, "holdout": 0.1}
    config = make_config(run, norm, "final", split=split)
    return Record(key=config.key, config=config.to_dict(), status="done")


RECORDS = [
    record_of(run, norm, repeat)
    for run in range(2)
    for norm in ("none", "graph")
    for repeat in range(2)
]


@pytest.fixture
def folder(tmp_path):
    """A run with all its records."""
    with Run(tmp_path / "toy-gin", CONFIG) as run:
        for record in RECORDS:
            run.journal.append(record)
    return tmp_path / "toy-gin"


GROWTH = {
    "more runs": ({"runs": 3}, ("runs 2 → 3",)),
    "more repeats": ({"repeats": 5}, ("repeats 2 → 5",)),
    "more norms": ({"norms": ["none", "batch", "graph", "pair"]}, ("norms + batch, + pair",)),
    "another order": ({"norms": ["graph", "none"]}, ("norms in the order graph,none",)),
    "a margin": ({"margin": 0.02}, ("margin not set → 0.02",)),
    "all": (
        {"norms": ["none", "graph", "batch"], "runs": 4, "repeats": 3, "margin": 0.5},
        ("norms + batch", "repeats 2 → 3", "runs 2 → 4", "margin not set → 0.5"),
    ),
    "what follows from the rest": ({"trivial": {"held_out": [0.5, 0.6]}}, ()),
    "nothing": ({}, ()),
}


@pytest.mark.parametrize(("change", "words"), GROWTH.values(), ids=GROWTH)
def test_a_run_grows_in_its_folder(folder, change, words):
    before = (folder / "records.jsonl").read_bytes()
    found = standing(folder, CONFIG | change)
    assert (found.change.words, found.change.refusal) == (words, "")
    assert found.records == {record.key: record for record in RECORDS}
    assert read_config(folder) == CONFIG, "to look changes nothing"
    with Run(folder, CONFIG | change) as run:
        assert run.changes == words
        assert list(run.journal) == RECORDS
    assert read_config(folder) == CONFIG | change
    assert (folder / "records.jsonl").read_bytes() == before
    assert {path.name for path in folder.iterdir()} == {"config.json", "records.jsonl"}
    with Run(folder, CONFIG | change) as again:
        assert again.changes == ()


def test_a_config_that_knew_no_repeats_had_one(tmp_path):
    old = {name: value for name, value in CONFIG.items() if name != "repeats"}
    Run(tmp_path / "run", old).journal.close()
    with Run(tmp_path / "run", CONFIG | {"repeats": 1}) as run:
        assert run.changes == ()
    with Run(tmp_path / "run", CONFIG) as run:
        assert run.changes == ("repeats 1 → 2",)


REFUSED = {
    "another trial": ({"epochs": 6}, "other settings (epochs: 5 there, 6 here); choose another"),
    "two things": (
        {"epochs": 6, "batch_size": 16, "runs": 5},
        "other settings (epochs: 5 there, 6 here; batch size: 8 there, 16 here); choose another",
    ),
    "many things": (
        {"epochs": 6, "batch_size": 16, "dataset": "MUTAG", "seed": 1, "device": "cuda"},
        "(dataset: toy there, MUTAG here; epochs: 5 there, 6 here; batch size: 8 there, 16 here; "
        "and 2 more)",
    ),
    "inside the model": ({"architecture": {"layers": 8}}, "(layers: 4 there, 8 here)"),
    "another model": (
        {"model": "gcn", "architecture": {"layers": 8}},
        "(model: gin there, gcn here)",
    ),
    "less": (
        {"runs": 1},
        "holds a run with more (runs: 2 there, 1 here), and a run can grow but not shrink; ask for "
        "--runs 2 or more, or choose another folder",
    ),
    "a norm less, one more": (
        {"norms": ["none", "batch"], "repeats": 1},
        "more (norms: none,graph there, none,batch here; repeats: 2 there, 1 here), and a run can "
        "grow but not shrink; ask for --norms none,graph,batch and --repeats 2 or more, or choose",
    ),
}


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_with_a_way_out(folder, change, words):
    (folder.parent / "toy-gin-2").mkdir()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    found = standing(folder, CONFIG | change)
    with pytest.raises(RunExistsError) as caught:
        Run(folder, CONFIG | change)
    message = str(caught.value)
    assert message == found.change.refusal
    assert found.records == {}
    assert words in message
    assert message.endswith(f"choose another folder, e.g. --out {folder.parent / 'toy-gin-3'}")
    assert "\n" not in message
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    with Run(folder, CONFIG):
        pass  # nothing is left locked


def test_what_was_asked_for_and_never_begun_can_be_taken_back(tmp_path):
    """As after Ctrl-C: nothing that was seen is left out."""
    large = CONFIG | {"norms": ["none", "graph", "batch"], "runs": 9, "repeats": 7}
    with Run(tmp_path, large) as run:
        for record in RECORDS:
            run.journal.append(record)
    with Run(tmp_path, CONFIG) as run:
        assert run.changes == ("norms − batch", "repeats 7 → 2", "runs 9 → 2")
    assert read_config(tmp_path) == CONFIG


@pytest.mark.parametrize(
    ("beyond", "name"),
    [
        (record_of(2, "none", 0), "runs"),
        (record_of(0, "none", 2), "repeats"),
        (record_of(0, "batch", 0), "norms"),
    ],
)
def test_a_single_outcome_beyond_keeps_the_run_as_large_as_it_is(tmp_path, beyond, name):
    large = CONFIG | {"norms": ["none", "graph", "batch"], "runs": 9, "repeats": 7}
    found = change_of(tmp_path, large, CONFIG, [*RECORDS, beyond])
    assert f"({name}: " in found.refusal
    assert found.refusal.count(" there, ") == 1


def test_a_run_that_another_process_works_on_does_not_grow(folder):
    with Run(folder, CONFIG), pytest.raises(RunExistsError, match="in use"):
        Run(folder, CONFIG | {"runs": 3})
    assert json.loads((folder / "config.json").read_text()) == CONFIG


def test_an_empty_folder_has_nothing_of_a_run(tmp_path):
    found = standing(tmp_path / "nowhere", CONFIG)
    assert (found.records, found.change.words, found.change.refusal) == ({}, (), "")
