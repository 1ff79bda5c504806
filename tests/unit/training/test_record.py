from __future__ import annotations

import json

import pytest

from graphnorms.training import Record, TrialConfig, content_hash, training_defaults


def test_record_survives_json(config: TrialConfig) -> None:
    record = Record(
        key="k",
        config=config.to_dict(),
        status="failed",
        history={"train_loss": [float("nan"), 1.5]},
    )
    line = record.to_json()
    assert "\n" not in line
    assert json.loads(line)["history"] == {"train_loss": [None, 1.5]}
    assert Record.from_json(line).config == config.to_dict()
    with pytest.raises(ValueError, match="not a trial record"):
        Record.from_json('{"name": 1}')


def test_content_hash_ignores_the_order_of_keys() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})


def test_defaults_of_presets() -> None:
    paper = training_defaults("graphnorm-paper")
    assert (paper.epochs, paper.batch_size, paper.learning_rate) == (400, 128, 0.01)
    assert (paper.schedule, paper.split_seed, paper.weight_decay) == ("linear", 9, 0.0)
    with pytest.raises(ValueError, match="unknown preset 'papr'"):
        training_defaults("papr")
