"""Trials trained at once against the same trials alone.

Merged ones have weight decay, so that no gradient is 0: that of a bias in front of BatchNorm is but
rounding noise, different in a merged stack, of which Adam makes steps.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from graphnorms.data import SplitConfig
from graphnorms.layers import CATALOG
from graphnorms.models import GNN, GCNConv, ModelConfig
from graphnorms.models.stacked import StackedGNN
from graphnorms.training import Record, run_trial
from graphnorms.training.config import TrialConfig
from graphnorms.training.stacked import StackedTraining, run_stack, stack_of
from tests import waiting

from .conftest import config_of, set_of

RATES = (0.003, 0.01, 0.02, 0.05)
MERGED = pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
STACKABLE = [name for name in CATALOG if name != "granola"]


def close(one: Any, other: Any, tolerance: float) -> None:
    """Check that records are the same, numbers up to a relative tolerance."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            close(one[name], other[name], tolerance)
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            close(first, second, tolerance)
    elif isinstance(one, float):
        assert math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    else:
        assert one == other


def compare(configs: list[TrialConfig], graphs: Any, *, merged: bool) -> list[Record]:
    """Check a stack against its trials; one that is merged is given weight decay."""
    if merged:
        configs = [replace(config, weight_decay=1e-3) for config in configs]
    stacked = run_stack(configs, graphs, merged=merged)
    for config, record in zip(configs, stacked, strict=True):
        close(record.without_timing(), run_trial(config, graphs).without_timing(), 1e-9)
    return stacked


@pytest.mark.parametrize(
    ("norm", "merged"),
    [
        *((norm, False) for norm in ("none", "batch", "layer", "instance", "graph", "pair")),
        # Not InstanceNorm: with it, a last bit of one weight makes 1e-9 of itself in 50 steps.
        *((norm, True) for norm in ("none", "batch", "layer", "graph")),
    ],
)
def test_four_trials_over_fifty_steps(norm: str, merged: bool) -> None:
    """43 graphs for training in batches of 12: 52 steps; every trial its own seed and rate."""
    graphs = set_of("numbers")
    base = config_of(
        graphs, dtype="float64", epochs=13, batch_size=12, norm=norm, schedule="constant",
        order_seed=5,
    )  # fmt: skip
    configs = [
        replace(base, learning_rate=rate, seed=seed) for seed, rate in enumerate(RATES, start=10)
    ]
    records = compare(configs, graphs, merged=merged)
    assert records[0].counts["steps_per_epoch"] * 13 == 52
    assert len({record.outcome["test_loss"] for record in records}) == 4
    keys = [record.key for record in records]
    assert [sorted(record.timing["stack"]) for record in records] == [sorted(keys)] * 4
    assert len(records[0].timing["train"]) == len(records[0].timing["evaluation"]) == 13


@pytest.mark.parametrize("name", ["gin", "gcn"])
def test_on_a_cpu_a_stack_is_not_merged(name: str) -> None:
    """What rounding makes of a bias in front of BatchNorm would show in the first epoch."""
    graphs = set_of("classes")
    model = ModelConfig(name=name, layers=2, hidden=8).to_dict()
    configs = [config_of(graphs, norm="batch", learning_rate=rate, model=model) for rate in RATES]
    for config, record in zip(configs, run_stack(configs, graphs), strict=True):
        assert record.without_timing() == run_trial(config, graphs).without_timing()


@MERGED
def test_every_norm_in_one_stack(merged: bool) -> None:
    graphs = set_of("answers")
    base = config_of(graphs, dtype="float64", epochs=2)
    compare([replace(base, norm=norm) for norm in STACKABLE], graphs, merged=merged)


@MERGED
@pytest.mark.parametrize("name", ["gcn", "gin", "gine"])
@pytest.mark.parametrize(
    "changes",
    [
        {"residual": True, "dropout_on": "logits", "readout": "mean"},
        # Sums over graphs of centred features are all 0, and scores of rounding noise.
        {
            "residual": True,
            "residual_place": "before-norm",
            "norm_place": "after-activation",
            "readout": "max",
        },
    ],
)
def test_every_architecture(
    name: str, changes: dict[str, Any], merged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GCN's bias begins as 0, where weight decay, too, gives nothing but rounding noise.
    monkeypatch.setattr(GCNConv, "reset_parameters", lambda conv: conv.bias.data.fill_(0.1))
    graphs = set_of("answers")
    model = ModelConfig(name=name, layers=3, hidden=5, **changes)
    base = config_of(
        graphs, dtype="float64", epochs=2, model=model.to_dict(), stage="select", order_seed=1
    )
    norms = ("batch", "batch:momentum=0.3", "instance", "diff-group", "batch", "message")
    configs = [
        replace(
            base, norm=norm, learning_rate=0.01 * place, weight_decay=1e-3 * place, seed=place % 2
        )
        for place, norm in enumerate(norms, start=1)
    ]
    compare(configs, graphs, merged=merged)


@MERGED
@pytest.mark.parametrize("name", ["classes", "numbers", "node-one", "node-many"])
@pytest.mark.parametrize("stage", ["final", "paper"])
def test_every_task_and_stage(name: str, stage: str, merged: bool) -> None:
    graphs = set_of(name)
    base = config_of(graphs, dtype="float64", epochs=3, stage=stage)
    configs = [replace(base, norm=norm, learning_rate=rate) for norm in ("batch", "diff-group")
               for rate in (0.003, 0.03)]  # fmt: skip
    compare(configs, graphs, merged=merged)


def test_a_trial_that_fails_leaves_the_others_alone() -> None:
    graphs = set_of("classes")
    base = config_of(graphs, dtype="float64", weight_decay=1e-3, epochs=12, norm="none")
    configs = [replace(base, learning_rate=rate) for rate in (0.01, 1e200, 0.02)]
    records = compare(configs, graphs, merged=True)
    assert [record.status for record in records] == ["done", "failed", "done"]
    assert "loss was not finite in epoch" in records[1].reason


def test_what_is_stacked_has_the_same_batches() -> None:
    config = config_of(set_of("classes"))
    for change in (
        {"norm": "batch"}, {"learning_rate": 0.5}, {"weight_decay": 0.5}, {"order_seed": 0},
        {"seed": 1, "order_seed": 0},
    ):  # fmt: skip
        assert stack_of(replace(config, **change)) == stack_of(config)
    for change in (
        {"seed": 1}, {"order_seed": 1}, {"run": 1}, {"stage": "select"}, {"epochs": 4},
        {"batch_size": 8}, {"split": SplitConfig(kind="fold", folds=5, fold=1).to_dict()},
        {"dtype": "float64"}, {"model": {**config.model, "hidden": 9}},
    ):  # fmt: skip
        assert stack_of(replace(config, **change)) != stack_of(config)
    assert stack_of(replace(config, norm="granola")) is None
    assert stack_of(replace(config, model={"name": "a:b", "source": "0", "head": "graph"})) is None
    graphs = set_of("classes")
    with pytest.raises(ValueError, match="2 trials that do not share their batches"):
        run_stack([config, replace(config, seed=1)], graphs)


@pytest.mark.parametrize(
    "norm",
    ["batch", "graph", "instance", "mean-subtraction", "graph-size", "layer", "layer-graph",
     "group:num_groups=4", "group-graph:num_groups=2", "pair", "pair:scale=2",
     "pair:scale_individually=True", "rms", "node"],
)  # fmt: skip
@pytest.mark.parametrize("residual", [False, True])
def test_merged_norms_give_what_they_give_alone(norm: str, residual: bool) -> None:
    """Of models with different weights: outputs, and gradients of every parameter."""
    graphs = set_of("classes")
    config = ModelConfig(name="gin", layers=2, hidden=8, residual=residual)
    models = [
        GNN(config, norm, graphs.num_features, 3, seed=seed).double().train() for seed in range(3)
    ]
    for model in models:
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.rand(
                parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
            )
    batch = graphs.batch(torch.arange(20))
    x = batch.x.double()
    torch.manual_seed(0)
    stack = StackedGNN(models, [norm] * 3, merged=True).train()
    assert all(len(slot._merged) == (norm not in ("rms", "node")) for slot in stack._slots.values())
    stacked = stack(x, batch.adjacency, batch.segments)
    weights = torch.randn(stacked[0].shape, dtype=torch.float64)
    together = torch.autograd.grad((stacked * weights).sum(), [*stack.models[1].parameters()])
    torch.default_generator.manual_seed(0)
    alone = models[1](x, batch.adjacency, batch.segments)
    expected = torch.autograd.grad((alone * weights).sum(), [*models[1].parameters()])
    torch.testing.assert_close(stacked[1], alone, rtol=1e-10, atol=1e-10)
    for got, wanted in zip(together, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_running_statistics_are_written_back() -> None:
    graphs = set_of("classes")
    config = ModelConfig(name="gin", layers=2, hidden=8)
    models = [GNN(config, "batch", graphs.num_features, 3, seed=seed) for seed in range(3)]
    alone = [GNN(config, "batch", graphs.num_features, 3, seed=seed) for seed in range(3)]
    stack = StackedGNN(models, ["batch"] * 3, merged=True).train()
    batch = graphs.batch(torch.arange(20))
    stack(batch.x, batch.adjacency, batch.segments)
    stack.write_back()
    for model, other in zip(models, alone, strict=True):
        other.train()(batch.x, batch.adjacency, batch.segments)
        for (name, buffer), (_, expected) in zip(
            model.named_buffers(), other.named_buffers(), strict=True
        ):
            torch.testing.assert_close(buffer, expected, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_no_step_waits_for_a_gpu() -> None:
    graphs = set_of("answers")
    config = config_of(graphs, device="cuda")
    trial = StackedTraining([replace(config, learning_rate=rate) for rate in RATES], graphs)
    trial.train_epoch(0, RATES)
    trial._mean_loss = waiting.allowed()(trial._mean_loss)  # type: ignore[method-assign]
    with waiting.refused():
        trial.train_epoch(1, RATES)
