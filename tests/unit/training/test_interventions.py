from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.data import GraphSet, Task
from graphnorms.layers import BatchNorm
from graphnorms.models.own import OwnModelConfig
from graphnorms.probes import captured
from graphnorms.training import TrialConfig, run_trial
from graphnorms.training.interventions import (
    INTERVENTIONS,
    MOST_DEGREES,
    MeansToOutputs,
    standardized,
    summaries,
    with_degrees,
)
from graphnorms.training.minibatches import Items
from graphnorms.training.predictor import apply
from graphnorms.training.trial import Training

from .conftest import SETS, config_of, set_of

DEEP = 6


def plain(graphs: GraphSet, norm: str) -> TrialConfig:
    config = config_of(graphs)
    return replace(config, norm=norm, model={**config.model, "dropout": 0.0, "layers": DEEP})


def with_one(name: str, config: TrialConfig, factor: float = 1.0) -> TrialConfig:
    changed = INTERVENTIONS[name].applied(config, factor)
    assert changed is not None
    return changed


def history(config: TrialConfig, graphs: GraphSet, *names: str) -> list[list[float]]:
    record = run_trial(config, graphs)
    assert record.status == "done"
    return [record.history[name] for name in names]


def two_graphs() -> GraphSet:
    """A path a-b-c with an edge c→a besides, and two nodes with a single edge d→e."""
    return GraphSet(
        name="two",
        x=torch.tensor([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0], [3.0, 5.0], [7.0, 5.0]]),
        ptr=torch.tensor([0, 3, 5]),
        edge_ptr=torch.tensor([0, 2, 4, 5, 5, 6]),
        edge_index=torch.tensor([1, 2, 0, 2, 1, 0]),
        transpose_ptr=torch.tensor([0, 1, 3, 5, 6, 6]),
        transpose_index=torch.tensor([1, 0, 2, 0, 1, 1]),
        y=torch.tensor([0, 1]),
        task=Task(kind="classification", targets=("no", "yes")),
        features="made up",
    )


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("whole-set-statistics", {}),
        ("larger-batch", {"batch_size": 64}),
        ("mean-as-feature", {}),
        ("fixed-shift", {}),
        ("standardized-features", {}),
        ("shallow", {"layers": 4}),
        ("leaky-activation", {}),
        ("degree-features", {}),
        ("evaluated-statistics", {}),
        ("equal-effective-rate", {"learning_rate": 0.03}),
    ],
)
def test_a_config_changes_in_what_the_intervention_says_and_nothing_else(
    name: str, fields: dict[str, Any]
) -> None:
    config = replace(
        plain(set_of("classes"), "batch"), batch_size=16, learning_rate=0.01, intervention=None
    )
    before, after = config.to_dict(), with_one(name, config, 3.0).to_dict()
    assert "intervention" not in before  # so that keys are what they were
    assert after.pop("intervention") == name
    model, changed = before.pop("model"), after.pop("model")
    differing = {key: after[key] for key in after if after[key] != before[key]}
    differing |= {key: changed[key] for key in changed if changed[key] != model[key]}
    assert differing == pytest.approx(fields)
    assert before.keys() == after.keys()


def test_what_user_code_trains_and_what_is_shallow_already_cannot_be_changed() -> None:
    config = plain(set_of("classes"), "batch")
    own = replace(config, model={"trial": "my:train", "source": "", "by": "trial", "takes": []})
    assert all(row.applied(own) is None for row in INTERVENTIONS.values())
    few = replace(config, model={**config.model, "layers": 4})
    assert INTERVENTIONS["shallow"].applied(few) is None
    nodes = replace(config, model={**config.model, "head": "node"})
    assert INTERVENTIONS["mean-as-feature"].applied(nodes) is None


@pytest.mark.parametrize("name", ["classes", "node-several"])
def test_a_step_normalizes_by_the_whole_training_set(name: str) -> None:
    graphs = set_of(name)
    training = Training(with_one("whole-set-statistics", plain(graphs, "batch")), graphs)
    norms = {n: m for n, m in training.model.named_modules() if isinstance(m, BatchNorm)}
    whole = training.training.minibatch(training.training.graph_ids)
    model = training.model.double().train()
    with captured(model, norms, "input") as seen, torch.no_grad():
        outputs = apply(model, whole.batch)
    means = [seen[layer][0].mean(0) for layer in norms]
    model.float()
    for norm in norms.values():
        norm.reset_running_stats()
    places = torch.randperm(
        len(training.training.graph_ids), generator=torch.Generator().manual_seed(0)
    )[:5]
    training._order = torch.Generator().manual_seed(0)
    training.config = replace(training.config, batch_size=5)
    loss, _ = training.train_epoch(0, at_most=1)
    for norm, mean in zip(norms.values(), means, strict=True):
        torch.testing.assert_close(norm.module.running_mean, 0.1 * mean.float())
    rows = training.training.rows_of(places)
    expected = F.cross_entropy(outputs[rows], whole.targets[rows], ignore_index=-1)
    assert loss == pytest.approx(float(expected), rel=1e-4)


def test_a_held_shift_stays_1_and_makes_a_graph_norm_an_instance_norm() -> None:
    graphs = set_of("classes")
    config = plain(graphs, "graph")
    held = Training(with_one("fixed-shift", config), graphs)
    free = Training(config, graphs)
    for training in (held, free):
        training.train_epoch(0)
    shares = [
        [p.detach() for n, p in training.model.named_parameters() if n.endswith("mean_scale")]
        for training in (held, free)
    ]
    assert all(bool((share == 1).all()) for share in shares[0])
    assert not any(bool((share == 1).any()) for share in shares[1])
    quantities = ("train_loss", "validation_loss")
    instance = history(plain(graphs, "instance"), graphs, *quantities)
    found = history(with_one("fixed-shift", config), graphs, *quantities)
    assert found == [pytest.approx(values, rel=1e-3) for values in instance]


def test_own_statistics_change_evaluation_only() -> None:
    graphs = set_of("classes")
    names = ("train_loss", "validation_loss", "train_score")
    config = plain(graphs, "batch")
    before, after = (
        history(each, graphs, *names) for each in (config, with_one("evaluated-statistics", config))
    )
    assert after[0] == before[0]
    assert after[1] != before[1]
    # A layer without running statistics uses those of what it sees.
    untracked = history(plain(graphs, "batch:track_running_stats=false"), graphs, *names)
    assert after == [pytest.approx(values) for values in untracked]


def test_own_statistics_leave_running_ones_alone() -> None:
    graphs = set_of("classes")
    training = Training(with_one("evaluated-statistics", plain(graphs, "batch")), graphs)
    training.train_epoch(0)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.validate()
    after = training.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(module.training for module in training.model.modules())


def test_columns_are_standardized_by_training_graphs() -> None:
    graphs = two_graphs()
    found = standardized(graphs, torch.tensor([0]))
    x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
    expected = (graphs.x[:, 0].double() - x.mean()) / x.std(correction=0)
    torch.testing.assert_close(found.x[:, 0], expected.float())
    assert torch.equal(found.x[:, 1], graphs.x[:, 1])  # constant: as it was
    assert torch.equal(found.edge_index, graphs.edge_index)


def test_degrees_stand_beside_the_features() -> None:
    graphs = two_graphs()
    found = with_degrees(graphs, torch.tensor([0]))
    assert torch.equal(found.x[:, :2], graphs.x)
    assert found.x[:, 2:].argmax(1).tolist() == [2, 2, 1, 0, 1]
    assert found.num_features == 2 + MOST_DEGREES


def test_the_readout_gets_means_size_and_degree() -> None:
    batch = two_graphs().batch(torch.tensor([0, 1]))
    # In the first graph a has the neighbours b, c; b has a, c; c has b. In the second e has d.
    of_neighbours = [(2 + 6) + (1 + 6) + 2, 3.0]
    expected = torch.tensor(
        [
            [9 / 3, 5, of_neighbours[0] / 3, 25 / 3, 5 / 3, torch.tensor(3.0).log()],
            [10 / 2, 5, of_neighbours[1] / 2, 5 / 2, 1 / 2, torch.tensor(2.0).log()],
        ]
    )
    torch.testing.assert_close(summaries(batch), expected)
    added = MeansToOutputs(Items(two_graphs(), torch.tensor([0, 1])), 2, seed=0)
    standard = (expected - expected.mean(0)) / expected.std(0, correction=0)
    standard[:, 1] = 0  # equal in both
    torch.testing.assert_close((summaries(batch) - added.center) / added.spread, standard)
    assert torch.equal(added(batch), torch.zeros(2, 2))


def test_outputs_with_means_begin_as_the_models_and_learn() -> None:
    graphs = set_of("classes")
    config = plain(graphs, "instance")
    trainings = [Training(each, graphs) for each in (config, with_one("mean-as-feature", config))]
    first, second = (training.validate()[1] for training in trainings)
    assert torch.equal(first, second)
    trainings[1].train_epoch(0)
    means = trainings[1]._means
    assert means is not None
    assert bool(means.last.weight.abs().min() > 0)
    assert trainings[1].counts() == trainings[0].counts()


class Own(nn.Module):
    """A model of a user's own: its norm stands behind a Linear."""

    def __init__(self, norm: Any, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(in_channels, 8), norm(8)
        self.last = nn.Linear(8, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        y = self.norm(self.first(x), batch).relu()
        return self.last(y.new_zeros(batch_size, 8).index_add(0, batch, y))


@pytest.mark.parametrize("name", [*SETS, "own"])
def test_every_intervention_that_can_be_made_trains(name: str) -> None:
    graphs = set_of("classes" if name == "own" else name)
    config = replace(plain(graphs, "batch"), epochs=1)
    factory = None
    if name == "own":
        factory = Own
        model = OwnModelConfig(name="tests:Own", source="0" * 16, head="graph")
        config = replace(config, model=model.to_dict())
    made = {row.name: changed for row in INTERVENTIONS.values() if (changed := row.applied(config))}
    for changed in made.values():
        record = run_trial(changed, graphs, factory=factory)
        assert (record.status, record.reason) == ("done", "")
        assert record.config["intervention"] == changed.intervention
        assert not record.measures
    of_models = {"shallow", "leaky-activation"} if name == "own" else set()
    of_graphs = {"mean-as-feature"} if graphs.task.level == "node" else set()
    assert made.keys() == INTERVENTIONS.keys() - of_models - of_graphs
