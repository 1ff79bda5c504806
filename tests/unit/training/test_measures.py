"""What is measured in a trial, against numbers worked out by hand in float64."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphnorms.data import GraphSet
from graphnorms.data.synthetic import planted
from graphnorms.models import ModelConfig
from graphnorms.segments import Segments
from graphnorms.training import TrialConfig, run_trial, train
from graphnorms.training.measured_layers import convolutions_of, norms_of, plain_calls
from graphnorms.training.measured_norms import Seen
from graphnorms.training.record import Record
from graphnorms.training.trial import Training

from .conftest import config_of, set_of


def measured(graphs: GraphSet, **changes: Any) -> tuple[TrialConfig, dict[str, Any]]:
    config = config_of(graphs, **changes)
    return config, run_trial(config, graphs).measures


def test_only_first_reported_trials_are_measured_and_nothing_else_changes() -> None:
    graphs = set_of("numbers")
    config = config_of(graphs, norm="batch")
    with_measures, without = (run_trial(config, graphs, measured=each) for each in (True, False))
    assert {*with_measures.measures} == {"initial", "final"}
    assert not without.measures
    assert "measures" not in without.to_json()
    one, other = (each.without_timing() for each in (with_measures, without))
    del one["measures"], other["measures"]
    assert one == other
    for change in ({"stage": "select"}, {"run": 1}):
        assert not run_trial(replace(config, **change), graphs).measures
    again = Record.from_json(with_measures.to_json())
    assert again.measures == with_measures.measures


@pytest.mark.parametrize("name", ["classes", "answers", "numbers", "node-one", "node-many"])
def test_every_task_is_measured(name: str) -> None:
    graphs = set_of(name)
    for norm in ("batch", "graph"):
        _, measures = measured(graphs, norm=norm)
        for found in measures.values():
            assert "problem" not in found
            json.dumps(found, allow_nan=False)
            assert len(found["gamma"]) == 4
            assert len(found["gradient"]) == 2
            assert ("mean_label" in found) == (graphs.task.level == "graph")
            assert ("running_gap" in found) == (norm == "batch")


def test_state_gradients_and_generators_are_left_alone() -> None:
    graphs = set_of("answers")
    trial = Training(config_of(graphs, norm="batch"), graphs)
    trial.train_epoch(0)
    trial.model.eval()
    state = {name: value.clone() for name, value in trial.model.state_dict().items()}
    gradients = [p.grad.clone() for p in trial.model.parameters() if p.grad is not None]
    torch.manual_seed(3)
    random.seed(3)
    expected = torch.rand(1), random.random()
    torch.manual_seed(3)
    random.seed(3)
    first = trial.measuring()()
    assert (torch.rand(1), random.random()) == expected
    assert trial.measuring()() == first
    assert not any(module.training for module in trial.model.modules())
    for name, value in trial.model.state_dict().items():
        assert torch.equal(value, state[name])
    after = [p.grad for p in trial.model.parameters() if p.grad is not None]
    assert all(map(torch.equal, gradients, after))


def clustered(graphs: int, nodes: int, seed: int = 0) -> tuple[Tensor, Segments, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(graphs, 1, generator=draw, dtype=torch.float64)
    segments = Segments.from_counts(torch.full((graphs,), nodes))
    return means[segments.index], segments, means


def test_design_effect_of_graphs_whose_nodes_are_alike_is_their_size() -> None:
    x, segments, means = clustered(500, 7)
    seen = Seen.of(x, x, segments, None)
    noise = seen.noise(batch_size=5, population=10)
    # With equal sizes the mean of a batch is that of 5 means, drawn without replacement from 10.
    variance = float(means.var(correction=1)) / float(means.var(correction=0))
    assert noise["design_effect"] == pytest.approx(7 * variance, rel=1e-12)
    assert noise["batch_noise"] == pytest.approx(0.5 * variance / 5, rel=1e-12)
    assert noise["between_graphs"] == pytest.approx(1, rel=1e-12)
    assert seen.noise(batch_size=10, population=10)["batch_noise"] == 0


def test_label_in_the_mean_and_behind_a_norm_that_removes_it() -> None:
    x, segments, means = clustered(200, 5, seed=1)
    draw = torch.Generator().manual_seed(2)
    noise = torch.randn(200, 1, generator=draw, dtype=torch.float64)
    within = torch.randn(len(x), 3, generator=draw, dtype=torch.float64)
    within -= torch.zeros(200, 3).double().index_add(0, segments.index, within / 5)[segments.index]
    front = torch.cat((x, within[:, :2]), 1)
    seen = Seen.of(front, within, segments, torch.ones(3))
    found = seen.explained((means + noise / 3).numpy())
    assert found["mean_label"] == pytest.approx(0.9, abs=0.03)  # 1 / (1 + 1/9)
    assert found["mean_label_after"] == 0


def test_constant_and_dead_channels() -> None:
    x, segments, _ = clustered(20, 3)
    y = torch.cat((x, 0 * x + 1, -x.abs() - 1, 1e-5 * x), 1)
    found = Seen.of(y, y, segments, torch.ones(4)).channels()
    assert found == {"constant": 0.5, "dead": 0.25}


def test_running_gap_and_shift_of_planted_statistics() -> None:
    graphs = planted("shift", 5)
    config = config_of(graphs, norm="batch", split={"kind": "given", "folds": 0, "fold": 0})
    trial = Training(replace(config, split=config.split | {"seed": 0, "holdout": 0.1}), graphs)
    linear = trial.model.convolutions[0].linear  # type: ignore[union-attr]
    inner = trial.model.convolutions[0].norm.norm.module  # type: ignore[union-attr]

    def fed(items: Any) -> Tensor:
        batch = items.minibatch(items.graph_ids).batch
        dense = batch.adjacency.to_edge_index()
        sums = batch.x.double().index_add(0, dense[1], batch.x.double()[dense[0]])
        return sums @ linear.weight.double().T + linear.bias.double()

    training = fed(trial.training).detach()
    others = torch.cat([fed(trial.validation), fed(trial.test)]).detach()
    spread = training.std(0, correction=0)
    with torch.no_grad():
        inner.running_mean.copy_(training.mean(0) + 2 * spread)
        inner.running_var.copy_(others.var(0, correction=0) * math.e**2)
    found = trial.measuring()()
    assert found["running_gap"][0] == pytest.approx(2, rel=1e-4)
    shift = ((inner.running_mean - others.mean(0)).abs() / spread).mean()
    assert found["shift"][0] == pytest.approx(float(shift), rel=1e-4)
    assert found["scale_shift"][0] == pytest.approx(1, rel=1e-4)


def test_rates_parameters_and_inputs() -> None:
    graphs = set_of("classes")
    trial = Training(config_of(graphs, norm="graph", learning_rate=0.02), graphs)
    with torch.no_grad():
        for convolution in trial.model.convolutions:  # type: ignore[union-attr]
            convolution.linear.weight.fill_(0.5)
            convolution.norm.norm.mean_scale.fill_(-0.5)
            convolution.norm2.norm.weight.copy_(torch.tensor([3.0, -1.0]).repeat(4))
    found = trial.measuring()()
    assert found["effective_rate"][0] == pytest.approx(0.04)
    assert found["alpha"] == [0.5, 1, 0.5, 1]
    assert found["alpha_moved"] == [1.5, 0, 1.5, 0]
    assert found["gamma"] == [1, 2, 1, 2]
    assert found["input_rms"] == pytest.approx(5**-0.5)
    assert found["input_spread"] == 1
    by_sgd = Training(replace(trial.config, optimizer="sgd"), graphs)
    with torch.no_grad():
        by_sgd.model.convolutions[0].linear.weight.fill_(0.5)  # type: ignore[union-attr]
    assert by_sgd.measuring()()["effective_rate"][0] == pytest.approx(0.08)
    plain = Training(replace(trial.config, norm="none"), graphs)
    assert "effective_rate" not in plain.measuring()()


def test_what_leaves_a_norm_is_taken_without_activation_and_residual() -> None:
    graphs = set_of("classes")
    model = ModelConfig(name="gcn", layers=3, hidden=8, residual=True).to_dict()
    trial = Training(config_of(graphs, norm="batch", model=model), graphs)
    batch = trial.training.minibatch(trial.training.graph_ids).batch
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str, x: Tensor, y: Tensor) -> None:
        seen[name] = x.detach(), y.detach()

    norms = norms_of(trial.model)
    with plain_calls(norms, batch.segments.num_rows, note):
        trial.model(batch.x, batch.adjacency, batch.segments)
    assert len(seen) == len(norms) == len(convolutions_of(trial.model)) == 3
    for x, y in seen.values():
        wide = x.double()
        expected = (wide - wide.mean(0)) / (wide.var(0, correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)
    assert all(norm.activation == "relu" for norm in norms.values())


def test_a_model_that_diverges_is_measured() -> None:
    graphs = set_of("classes")
    record = run_trial(config_of(graphs, norm="batch", learning_rate=1e30), graphs)
    assert record.status == "failed"
    assert record.measures["initial"]["batch_noise"][0] > 0
    assert "problem" not in record.measures["final"]
    json.dumps(record.measures, allow_nan=False)


class Own(nn.Module):
    """A user's model: its norms are torch's, the last one behind the readout."""

    def __init__(self, in_channels: int, out_channels: int, norm: Any) -> None:
        super().__init__()
        self.first = nn.Linear(in_channels, 8)
        self.norm = nn.BatchNorm1d(8)
        self.mine = norm(8)
        self.of_graphs = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        x = self.mine(self.norm(self.first(x)), batch)
        sums = x.new_zeros(int(batch.max()) + 1, 8).index_add(0, batch, x)
        y: Tensor = self.last(self.of_graphs(sums))
        return y


def test_models_of_the_users_own() -> None:
    graphs = set_of("classes")
    model = {"name": "Own", "source": "0", "layers": None, "hidden": None, "head": "graph"}
    config = config_of(graphs, norm="graph", model=model)
    record, _ = train(config, graphs, factory=Own, keep=False, measured=True)
    found = record.measures["final"]
    assert "problem" not in found
    assert found["batch_noise"][2] is None
    assert found["batch_noise"][0] > 0
    assert found["gamma"][1] == pytest.approx(1, abs=0.1)
    assert len(found["gamma"]) == 3
    assert found["effective_rate"][0] > 0
