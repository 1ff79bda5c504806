"""Records as frames and Parquet files."""

from __future__ import annotations

import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest
from tests.faults import make_config

from graphnorms.lab.frames import histories_to_frame, records_to_frame, write_parquet
from graphnorms.training.record import Record


def records() -> list[Record]:
    first = make_config(3, "graph", "final", model={"layers": 4, "readout": "sum", "sizes": [1, 2]})
    second = make_config(0, "none")
    return [
        Record(
            key=first.key,
            config=first.to_dict(),
            status="done",
            history={
                "train_loss": [0.5, 0.25],
                "validation_score": [0.7, 0.8],
                "learning_rate": [0.01, 0.005],
            },
            outcome={"epoch": 2, "validation_score": 0.8, "test_score": 0.75},
            scores={"validation": {"mcc": 0.25}, "test": {"mcc": 0.5}},
            target_scores={"test": {"toxic": 0.875}},
            counts={"parameters": 1234, "train_items": 100},
            environment={"python": "3.11", "threads": 1},
            timing={"train": [1.0, 2.0], "evaluation": [0.5, 0.25], "total": 4.0},
        ),
        Record(
            key=second.key,
            config=second.to_dict(),
            status="failed",
            reason="ValueError: no",
            history={"train_loss": [0.5], "validation_score": [None], "learning_rate": [0.01]},
        ),
    ]


def test_a_row_is_a_trial():
    frame = records_to_frame(records())
    assert len(frame) == 2
    assert list(frame.columns[:4]) == ["key", "dataset", "norm", "stage"]
    done, failed = frame.to_dict("records")
    assert done["key"] == records()[0].key
    expected = {
        "norm": "graph",
        "stage": "final",
        "fold": 3,
        "run": 3,
        "learning_rate": 0.01,
        "status": "done",
        "epoch": 2,
        "test_score": 0.75,
        "validation_mcc": 0.25,
        "test_mcc": 0.5,
        "test_score_toxic": 0.875,
        "parameters": 1234,
        "seconds": 4.0,
        "train_seconds": 3.0,
        "evaluation_seconds": 0.75,
        "model_layers": 4,
        "split_folds": 10,
        "split_kind": "fold",
        "environment_threads": 1,
        "model_sizes": "[1, 2]",
        "epochs": 3,
    }
    assert {name: done[name] for name in expected} == expected
    assert failed["reason"] == "ValueError: no"
    for missing in ("epoch", "test_score", "parameters", "seconds", "model_readout"):
        assert pd.isna(failed[missing])
    assert frame["epoch"].dtype == "Int64", "a missing value does not make numbers of epochs floats"
    assert not any(isinstance(cell, dict | list) for cell in [*done.values(), *failed.values()])


def test_a_row_is_a_trial_and_an_epoch():
    frame = histories_to_frame(records())
    rows = frame.to_dict("records")
    assert [(row["norm"], row["epoch"]) for row in rows] == [
        ("graph", 1),
        ("graph", 2),
        ("none", 1),
    ]
    assert [row["train_loss"] for row in rows] == [0.5, 0.25, 0.5]
    assert [row["step_size"] for row in rows] == [0.01, 0.005, 0.01]
    assert [row["learning_rate"] for row in rows] == [0.01] * 3
    assert [row["train_seconds"] for row in rows[:2]] == [1.0, 2.0]
    assert pd.isna(rows[2]["validation_score"])
    assert pd.isna(rows[2]["train_seconds"])


@pytest.mark.parametrize("make", [records_to_frame, histories_to_frame])
def test_without_records_the_columns_and_their_types_are_there(make):
    empty, full = make([]), make(records())
    assert len(empty) == 0
    assert list(empty.columns) == list(full.columns[: len(empty.columns)])
    assert all(empty.dtypes == full.dtypes[: len(empty.columns)])


def test_what_differs_in_type_becomes_text():
    configs = [make_config(0, model={"hidden": 64}), make_config(1, model={"hidden": "wide"})]
    frame = records_to_frame(
        Record(key=config.key, config=config.to_dict(), status="done") for config in configs
    )
    assert frame["model_hidden"].tolist() == ["64", "wide"]


@pytest.mark.parametrize(
    ("history", "make"), [(False, records_to_frame), (True, histories_to_frame)]
)
def test_a_parquet_file_has_the_frame(tmp_path, history, make):
    path = tmp_path / "trials.parquet"
    path.write_text("something old")
    write_parquet(path, records(), history=history)
    pd.testing.assert_frame_equal(pd.read_parquet(path), make(records()))
    assert list(tmp_path.iterdir()) == [path]
    types = {field.name: str(field.type) for field in pq.read_schema(path)}
    assert types["epoch"] == "int64"
    assert types["learning_rate"] == "double"


@pytest.mark.parametrize("package", ["pandas", "pyarrow"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'graphnorms\[export\]'"):
        write_parquet(tmp_path / "trials.parquet", records())
    assert not list(tmp_path.iterdir())
