from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from graphnorms.data import GraphSet, load_dataset
from graphnorms.models import preset
from graphnorms.training import Record, TrialConfig, content_hash, run_trial, training_defaults


@pytest.fixture(scope="module")
def graphs() -> GraphSet:
    return load_dataset("MUTAG")


@pytest.fixture
def config(graphs: GraphSet) -> TrialConfig:
    return TrialConfig(
        dataset="MUTAG", fingerprint=graphs.fingerprint, model=preset("gin").to_dict(),
        norm="graph", fold=0, folds=10, split_seed=0, epochs=3, batch_size=32,
        learning_rate=0.01, schedule="linear", weight_decay=0.0, seed=0, device="cpu",
        dtype="float32", graphnorms_version="0", torch_version=torch.__version__,
    )  # fmt: skip


def test_same_record_on_every_run(graphs: GraphSet, config: TrialConfig) -> None:
    first = run_trial(config, graphs)
    torch.manual_seed(99)
    torch.rand(5)
    second = run_trial(config, graphs)
    assert first.without_timing() == second.without_timing()
    assert first.status == "done"
    assert first.key == config.key
    assert {len(values) for values in first.history.values()} == {3}
    assert len(first.timing["train"]) == 3


def test_the_seed_and_the_fold_change_the_record(graphs: GraphSet, config: TrialConfig) -> None:
    base = run_trial(config, graphs)
    for change in ({"seed": 1}, {"fold": 1}, {"norm": "batch"}, {"weight_decay": 0.1}):
        other_config = replace(config, **change)
        assert other_config.key != config.key
        assert run_trial(other_config, graphs).history != base.history


def test_learning_rate_falls_linearly(graphs: GraphSet, config: TrialConfig) -> None:
    rates = run_trial(config, graphs).history["learning_rate"]
    assert rates == pytest.approx([0.01, 0.01 * 2 / 3, 0.01 / 3])
    constant = run_trial(replace(config, schedule="constant"), graphs)
    assert constant.history["learning_rate"] == [0.01] * 3


def test_counts_and_epochs_reported(graphs: GraphSet, config: TrialConfig) -> None:
    calls = []
    record = run_trial(config, graphs, lambda: calls.append(1))
    assert len(calls) == 3
    assert record.counts["train_graphs"] + record.counts["validation_graphs"] == 188
    assert record.counts["steps_per_epoch"] == -(-record.counts["train_graphs"] // 32)


def test_accuracy_is_that_of_the_model_in_eval_mode(graphs: GraphSet, config: TrialConfig) -> None:
    """With learning rates too small to matter, accuracy is that of the initial weights."""
    from graphnorms.data import stratified_folds
    from graphnorms.models import GNN, ModelConfig

    frozen = replace(config, learning_rate=1e-30, epochs=1, norm="none")
    record = run_trial(frozen, graphs)
    model = GNN(ModelConfig(**config.model), "none", 7, 2, seed=config.seed).eval()
    for ids, name in zip(
        stratified_folds(graphs.y, 10, 0)[0],
        ("train_accuracy", "validation_accuracy"),
        strict=True,
    ):
        batch = graphs.batch(ids)
        with torch.no_grad():
            predicted = model(batch.x, batch.adjacency, batch.segments).argmax(1)
        assert record.history[name] == [float((predicted == batch.y).double().mean())]


def test_a_loss_that_is_not_finite_is_a_failure(graphs: GraphSet, config: TrialConfig) -> None:
    record = run_trial(replace(config, norm="none", learning_rate=1e20, epochs=30), graphs)
    assert record.status == "failed"
    assert "loss was not finite in epoch" in record.reason
    assert Record.from_json(record.to_json()).without_timing() == record.without_timing()


def test_other_data_is_refused(graphs: GraphSet, config: TrialConfig) -> None:
    with pytest.raises(ValueError, match=r"has the fingerprint .* was the file changed"):
        run_trial(replace(config, fingerprint="0" * 16), graphs)


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
