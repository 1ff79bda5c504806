"""Models on files: what comes back is what was trained, and nothing is executed."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graphnorms.data import GraphSet, SplitConfig, split_items
from graphnorms.errors import GraphnormsError
from graphnorms.models import ModelConfig
from graphnorms.training import (
    TrialConfig,
    load_model,
    metric_for,
    save_checkpoint,
    score,
    train,
)

from .conftest import config_of, set_of, with_targets


def test_the_model_on_file_has_the_scores_of_the_record(
    graphs: GraphSet, config: TrialConfig, tmp_path: Path
) -> None:
    """Those of the best epoch, not of the last; numbers in their unit."""
    path = tmp_path / "model.safetensors"
    config = config_of(graphs, epochs=8, learning_rate=0.05, norm="batch")
    record, trained = train(config, graphs)
    assert trained is not None
    save_checkpoint(path, trained)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    predictor = load_model(path)
    assert not predictor.training
    assert (predictor.config, predictor.task) == (config, graphs.task)
    with torch.no_grad():
        predictions = predictor(graphs.batch(torch.arange(len(graphs))))
    split = split_items(graphs, SplitConfig(**config.split))
    metric = metric_for(config.metric, graphs.task).name
    for part in ("validation", "test"):
        ids = getattr(split, part)
        found = score(metric, graphs.task.kind, predictions[ids], graphs.y[ids], predictor.std)
        assert found == pytest.approx(record.outcome[f"{part}_score"], rel=1e-5)
    if record.outcome["epoch"] < 8 and graphs.task.kind == "regression":
        assert record.outcome["validation_score"] < record.history["validation_score"][-1]


def test_round_trip_is_exact(graphs: GraphSet, config: TrialConfig, tmp_path: Path) -> None:
    _, predictor = train(config, graphs)
    assert predictor is not None
    save_checkpoint(tmp_path / "a", predictor)
    again = load_model(tmp_path / "a")
    batch = graphs.batch(torch.arange(len(graphs)))
    assert torch.equal(predictor(batch), again(batch))
    save_checkpoint(tmp_path / "b", again)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sage", {}),
        ("gat", {"heads": 2}),
        ("gatedgcn", {"edge_norm": "batch"}),
        ("gps", {}),
        ("gps", {"norm_place": "sandwich", "residual_place": "rezero", "qk_norm": "l2"}),
    ],
)
def test_every_model_comes_back_from_its_file(
    name: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    """With its edges, and in bfloat16 too."""
    for data in ("answers", "node-many"):
        graphs = set_of(data)
        model = ModelConfig(name=name, layers=2, hidden=8, head=graphs.task.level, **changes)
        _, predictor = train(config_of(graphs, model=model.to_dict(), epochs=1), graphs)
        assert predictor is not None
        assert predictor.sees_edges == (data == "answers" and name != "sage")
        save_checkpoint(tmp_path / "a", predictor)
        again, batch = load_model(tmp_path / "a"), graphs.batch(torch.arange(len(graphs)))
        assert torch.equal(predictor(batch), again(batch))
        half = again.bfloat16()(batch)
        assert half.isfinite().all()


def test_a_model_in_half_precision_keeps_the_unit(tmp_path: Path) -> None:
    """Mean and deviation of the targets stay float64: bfloat16 makes 99614720 of 1e8."""
    graphs = set_of("numbers")
    y = (graphs.y.double() + 1e8)[:, :1]
    far = with_targets(graphs, replace(graphs.task, targets=("energy",)), y)
    _, predictor = train(config_of(far), far)
    assert predictor is not None
    batch = far.batch(torch.arange(60))
    with torch.no_grad():
        whole, half = predictor(batch), predictor.bfloat16()(batch)
    assert whole.dtype == half.dtype == torch.float64
    assert predictor.model.dtype == torch.bfloat16
    std = float(y[~y.isnan()].std())
    assert 0 < (whole - half).abs().max() < std
    assert predictor.to("meta").mean.is_meta  # type: ignore[union-attr]


def test_keeping_the_model_changes_nothing_in_the_record() -> None:
    graphs = set_of("classes")
    config = config_of(graphs)
    kept, dropped = (train(config, graphs, keep=keep) for keep in (True, False))
    assert kept[0].without_timing() == dropped[0].without_timing()
    assert dropped[1] is None


def test_a_failed_trial_leaves_no_model() -> None:
    graphs = set_of("classes")
    config = config_of(graphs, norm="none", learning_rate=1e20, epochs=30)
    record, trained = train(config, graphs)
    assert (record.status, trained) == ("failed", None)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("the file was executed",))


def test_other_files_are_refused_and_not_executed(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "model"
    with pytest.raises(FileNotFoundError, match="model"):
        load_model(path)
    graphs = set_of("classes")
    _, trained = train(config_of(graphs, epochs=1), graphs)
    assert trained is not None
    save_checkpoint(path, trained)
    whole = path.read_bytes()
    for content in (b"", whole[:-10], whole[: len(whole) // 3], pickle.dumps(Bomb())):
        path.write_bytes(content)
        with pytest.raises(GraphnormsError, match="not a model that graphnorms wrote"):
            load_model(path)
    for header in ("[", "[1]", "{}", json.dumps({"format": 2, "trial": {"norm": "abort()"}})):
        for metadata in ({"graphnorms": header}, {"other": header}, None):
            save_file({"w": torch.zeros(2)}, path, metadata)
            with pytest.raises(GraphnormsError, match="not a model that graphnorms wrote"):
                load_model(path)
    save_file({"w": torch.zeros(2)}, path, {"graphnorms": '{"format": 1}'})
    with pytest.raises(GraphnormsError, match="the format is 1, expected 2"):
        load_model(path)
