"""What user code that trains is given, and what is taken from it."""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import graphnorms
from graphnorms.data import from_pyg, load_dataset
from graphnorms.data.pyg_list import to_pyg
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.training.metrics import METRICS, logged_metric, metric_named, part_of
from graphnorms.training.own_training import Report, TrialNorm, check_range, scores_of
from graphnorms.training.trainer import Trainer
from graphnorms.training.trial_start import TrialStart

from .conftest import SETS, set_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # importing PyG calls what torch has deprecated
    from torch_geometric.data import Data


@pytest.mark.parametrize(
    ("result", "select", "expected"),
    [
        (0.5, False, {"test_score": 0.5}),
        (np.float32(0.5), False, {"test_score": 0.5}),
        (torch.tensor([0.5]), False, {"test_score": 0.5}),
        ({"val": 1, "test": 2, "f1": 3}, False, {"validation_score": 1, "test_score": 2, "f1": 3}),
        ({"validation": 1}, True, {"validation_score": 1}),
    ],
)
def test_scores_are_a_number_or_named_numbers(result, select, expected) -> None:
    assert scores_of(result, "train", needs_validation=select) == expected


@pytest.mark.parametrize(
    ("result", "select", "expected"),
    [
        (None, False, "train returned nothing, expected a score"),
        (0.5, True, "no validation score, which chooses the learning rate"),
        ({"val": 0.5}, False, "no test score"),
        ({}, False, "no test score"),
        ("good", False, "is 'good', expected a number"),
        (True, False, "is True, expected a number"),
        (torch.zeros(2), False, "expected a number"),
        (math.nan, False, "the test score is nan"),
    ],
)
def test_what_is_no_score_is_told_in_one_line(result, select, expected) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        scores_of(result, "train", needs_validation=select)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "score", "message"),
    [
        (
            "accuracy",
            85.3,
            "the test score is 85.3, expected accuracy from 0 to 1; divide a percentage by",
        ),
        ("mcc", -1.5, "the test score is -1.5, expected MCC from -1 to 1; name another"),
        ("mae", -0.2, "the test score is -0.2, expected MAE from 0 on; name another"),
        ("r2", 1.2, "the test score is 1.2, expected R² from -inf to 1; name another"),
    ],
)
def test_a_score_that_the_metric_cannot_have_is_refused(metric, score, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_range({"test_score": score}, METRICS[metric], "train")
    check_range({"validation_score": 1.0, "test_score": 1 + 1e-9}, METRICS[metric], "train")
    check_range({"test_score": math.nan}, METRICS[metric], "train")


def test_a_function_gets_the_options_that_it_names() -> None:
    def train(norm, learning_rate=0.1, epochs=3, *, batch_size, **more):
        return 0.0

    trainer = Trainer.of(train)
    assert trainer.taken() == ["learning_rate", "batch_size"]
    assert trainer.taken(["epochs"]) == ["learning_rate", "epochs", "batch_size"]
    with pytest.raises(ValueError, match="takes no weight_decay"):
        trainer.taken(["weight_decay"])
    assert Trainer.of(functools.partial(train, batch_size=4)).name == train.__name__

    def other(norm, gamma):
        return 0.0

    with pytest.raises(ValueError, match="has the argument 'gamma', expected some of norm, split"):
        Trainer.of(other)


def drawn(channels: int) -> nn.Module:
    """A norm whose weights are random."""
    return nn.Linear(channels, channels)


@pytest.mark.parametrize("norm", ["none", "batch", "graph", OwnNorm.of(drawn)])
def test_a_norm_draws_nothing_from_the_generator_of_the_model(norm: str | OwnNorm) -> None:
    make = TrialNorm(norm, 3, TrialStart())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    layer = make(4)
    assert torch.equal(torch.get_rng_state(), state)
    again = TrialNorm(norm, 3, TrialStart())(4).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in layer.state_dict().items())
    assert layer(torch.randn(3, 4), torch.zeros(3, dtype=torch.int64)).shape == (3, 4)


def test_a_norm_takes_the_place_of_others() -> None:
    own = OwnNorm.of(nn.LayerNorm)
    for norm in ("graph", own):
        model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6).double())
        made = TrialNorm(norm, 0, TrialStart())
        graphnorms.replace_norms(model, to=made)
        assert type(model[1]) is type(made(6))
        assert {each.dtype for each in model[1].parameters()} == {torch.float64}
    with pytest.raises(ValueError, match="a Linear has no number of channels"):
        TrialNorm("graph", 0, TrialStart())(nn.Linear(2, 2))


def test_reported_values_stand_in_columns() -> None:
    calls: list[int] = []
    report = Report(TrialStart(), lambda: calls.append(1))
    report(1, train_loss=torch.tensor(0.5))
    report(2, train_loss=0.25, val_score=np.float64(0.75), mine=1)
    report(3, val_score=1)
    found = report.columns()
    assert list(found) == ["step", "train_loss", "validation_score", "mine"]
    assert found["step"] == [1, 2, 3]
    assert found["train_loss"][:2] == [0.5, 0.25]
    assert found["validation_score"][1:] == [0.75, 1]
    assert [math.isnan(column[at]) for column, at in zip(found.values(), (0, 2, 0, 2), strict=True)]
    assert math.isnan(found["train_loss"][2])
    assert math.isnan(found["validation_score"][0])
    assert len(calls) == len(report.seconds) == 3
    with pytest.raises(ValueError, match="report: loss is 'high', expected a number"):
        report(4, loss="high")


@pytest.mark.parametrize("name", SETS)
def test_a_list_of_data_has_the_same_graphs(name: str) -> None:
    graphs = set_of(name)
    listed = to_pyg(graphs)
    for place in (0, len(graphs) - 1):
        batch = graphs.batch(torch.tensor([place]))
        data = listed[place]
        assert isinstance(data, Data)
        assert torch.equal(data.x, batch.x)
        edges = [
            sorted(map(tuple, each.T.tolist()))
            for each in (data.edge_index, batch.adjacency.to_edge_index())
        ]
        assert edges[0] == edges[1]
        assert data.y.equal(batch.y) or data.y.isnan().any()


def test_an_embedded_set_survives_the_list() -> None:
    graphs = load_dataset("MUTAG", edge_features="none")
    again = from_pyg(to_pyg(graphs))
    assert torch.equal(again.x, graphs.x)
    assert torch.equal(again.edge_index, graphs.edge_index)
    assert torch.equal(again.y, graphs.y)


class Net(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = norm
        self.last = nn.Linear(4, 1)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


def start_of(norm: str, seed: int = 0, order: int = 0, width: int = 0) -> TrialStart:
    start = TrialStart()
    torch.manual_seed(seed)
    torch.randn(width)
    model = Net(TrialNorm(norm, seed, start)(4))
    batches = DataLoader(
        torch.randn(10, 3), 4, shuffle=True, generator=torch.Generator().manual_seed(order)
    )
    in_order = DataLoader(torch.randn(10, 3), 4)
    with start.watching():
        for _ in range(2):
            for loader in (batches, in_order):
                for x in loader:
                    model(x).sum().backward()
                    with torch.no_grad():
                        model.first.weight.add_(1.0)
    return start


def test_the_start_of_a_training_is_seen() -> None:
    start = start_of("none")
    assert (len(start.weights), len(start.order), start.parameters) == (16, 2, 21)
    for norm in ("batch", "graph", "layer"):
        other = start_of(norm)
        assert other.to_dict() == start.to_dict()
        assert other.parameters > 21
    assert start_of("graph", width=1).weights != start.weights
    assert start_of("graph", width=1).order == start.order
    assert start_of("graph", order=1).order != start.order
    iterate = torch.utils.data.BatchSampler.__iter__
    assert iterate.__module__ == "torch.utils.data.sampler"


def test_a_model_can_be_shown() -> None:
    start = TrialStart()
    model = Net(nn.Identity())
    Report(start)(0, model=model)
    assert start.to_dict().keys() == {"weights"}
    assert start.parameters == 21


def test_a_logged_value_has_a_direction_and_parts() -> None:
    f1 = metric_named("val_f1:max")
    assert (f1.title, f1.higher_is_better, f1.fraction) == ("f1", True, False)
    loss = metric_named("val/loss:min")
    assert (loss.title, loss.better(1.0, 2.0)) == ("loss", True)
    assert metric_named("val_accuracy:max").fraction
    assert [logged_metric(text) for text in ("f1", "f1:up", ":max")] == [None] * 3
    names = ("val_mae", "val/mae", "valid.mae", "mae", "interval", "mae_val")
    tested = ["test_mae", "test/mae", "test.mae", "test_mae", "test_interval", "mae_test"]
    assert [part_of(name, "test") for name in names] == tested
