from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch import Tensor

from graphnorms.data import GraphSet, SplitConfig, random_graphs, split_items
from graphnorms.layers.power_norm import PowerNorm
from graphnorms.layers.super_norm import subgraph_factors
from graphnorms.models import GNN, ModelConfig, derive_seed
from graphnorms.models.own import OwnModelConfig
from graphnorms.training import TrialConfig, run_trial, train
from graphnorms.training.metrics import metric_for, metrics_of
from graphnorms.training.minibatches import Items, batch_sizes
from graphnorms.training.objective import Objective
from graphnorms.training.record import Judged, Record
from graphnorms.training.scores import score, scores_by_target
from graphnorms.training.trial import Training
from tests import waiting

from .conftest import ANSWERS, CLASSES, NUMBERS, config_of, set_of, with_targets

MUTABLE = ("classes", "numbers", "node-one")


def without_dropout(config: TrialConfig) -> TrialConfig:
    return replace(config, model={**config.model, "dropout": 0.0})


def test_same_record_on_every_run(graphs: GraphSet, config: TrialConfig) -> None:
    first = run_trial(config, graphs)
    torch.manual_seed(99)
    torch.rand(5)
    second = run_trial(config, graphs)
    assert first.to_json().split('"timing"')[0] == second.to_json().split('"timing"')[0]
    assert (first.status, first.reason, first.key) == ("done", "", config.key)
    assert {len(values) for values in first.history.values()} == {3}
    assert len(first.timing["train"]) == len(first.timing["evaluation"]) == 3


def test_same_record_from_a_packed_folder(
    graphs: GraphSet, config: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run_trial(config, graphs)
    graphs.save(tmp_path / "set")
    monkeypatch.setattr("graphnorms.data.array_files.MOST_RESIDENT", 1 << 12)
    monkeypatch.setattr("graphnorms.training.trial._MOST_KEPT", -1)  # validation is made anew
    found = run_trial(config, GraphSet.open(tmp_path / "set"))
    assert found.to_json().split('"timing"')[0] == expected.to_json().split('"timing"')[0]


@pytest.mark.parametrize("name", MUTABLE)
def test_what_is_in_the_config_changes_the_record(name: str) -> None:
    graphs = set_of(name)
    config = config_of(graphs)
    base = run_trial(config, graphs)
    for change in ({"seed": 1}, {"norm": "batch"}, {"weight_decay": 0.1}, {"learning_rate": 0.1}):
        other = replace(config, **change)
        assert other.key != config.key
        assert run_trial(other, graphs).history["train_loss"] != base.history["train_loss"]
    if name != "node-one":
        other = replace(config, split={**config.split, "fold": 1})
        assert run_trial(other, graphs).history != base.history


def test_the_order_of_the_batches_has_a_seed_of_its_own() -> None:
    graphs = set_of("numbers")
    config = config_of(graphs)
    assert "order_seed" not in config.to_dict()  # so that keys are what they were
    same, other = (replace(config, order_seed=seed) for seed in (config.seed, config.seed + 1))
    assert len({config.key, same.key, other.key}) == 3
    histories = [run_trial(each, graphs).history for each in (config, same, other)]
    assert histories[0] == histories[1]
    assert histories[0]["train_loss"] != histories[2]["train_loss"]


def judged_by_hand(graphs: GraphSet, outputs: Tensor, ids: Tensor, train: Tensor) -> Tensor:
    """Loss and default score of some items, from outputs of the model for all."""
    z, y = outputs[ids].double(), graphs.y[ids]
    if graphs.task.kind == "classification":
        losses = -(z.exp() / z.exp().sum(1, keepdim=True))[torch.arange(len(ids)), y].log()
        return torch.tensor([losses.mean(), (z.argmax(1) == y).double().mean()])
    known = ~y.isnan()
    if graphs.task.kind == "binary":
        p = torch.sigmoid(z)
        losses = torch.where(y == 1, -p.log(), -(1 - p).log())
        columns = [(y[known[:, k], k], z[known[:, k], k]) for k in range(y.shape[1])]
        scores = [oracle.roc_auc_score(*c) for c in columns if c[0].min() < c[0].max()]
        return torch.tensor([losses[known].mean(), np.mean(scores)])
    of_training = graphs.y[train].double().numpy()
    mean, std = (torch.from_numpy(f(of_training, 0)) for f in (np.nanmean, np.nanstd))
    errors = (z * std + mean - y) / std
    of_each = [errors[known[:, k], k].abs().mean() for k in range(y.shape[1])]
    return torch.tensor([errors[known].square().mean(), np.mean(of_each)])


def test_losses_and_scores_are_those_of_the_definition(
    graphs: GraphSet, config: TrialConfig
) -> None:
    """With a learning rate too small to matter they are those of the initial weights."""
    frozen = replace(without_dropout(config), learning_rate=1e-30, epochs=1, norm="none")
    record = run_trial(frozen, graphs)
    model = GNN(
        ModelConfig(**frozen.model),
        "none",
        graphs.num_features,
        graphs.num_outputs,
        edge_channels=graphs.num_edge_features,
        seed=config.seed,
    ).eval()
    batch = graphs.batch(torch.arange(len(graphs)))
    with torch.no_grad():
        outputs = model(batch.x, batch.adjacency, batch.segments, batch.edge_features)
    split = split_items(graphs, SplitConfig(**config.split))
    for part in ("train", "validation", "test"):
        ids = getattr(split, part)
        expected = judged_by_hand(graphs, outputs, ids, split.train)
        found = [
            record.outcome[f"test_{what}"] if part == "test" else record.history[f"{part}_{what}"]
            for what in ("loss", "score")
        ]
        found = [value[0] if isinstance(value, list) else value for value in found]
        assert found == pytest.approx(expected.tolist(), rel=2e-5)
        assert record.counts[f"{part}_items"] == len(ids)


def test_every_metric_and_every_target_is_recorded(graphs: GraphSet, config: TrialConfig) -> None:
    """Of the model at the best epoch, on the parts that the stage may see."""
    record, predictor = train(config, graphs)
    assert predictor is not None
    with torch.no_grad():
        outputs = predictor(graphs.batch(torch.arange(len(graphs))))
    task, y = graphs.task, graphs.y
    split = split_items(graphs, SplitConfig(**config.split))
    std = Objective.of(task, y[split.train]).deviations
    metrics = {metric.name for metric in metrics_of(task)}
    several = task.kind != "classification"
    assert set(record.scores) == {"validation", "test"}
    assert set(record.target_scores) == ({"validation", "test"} if several else set())
    judged = metric_for(config.metric, task).name
    for part, found in record.scores.items():
        ids = getattr(split, part)
        known = {name: score(name, task.kind, outputs[ids], y[ids], std) for name in metrics}
        assert found == pytest.approx(known, rel=1e-5)
        assert found[judged] == record.outcome[f"{part}_score"]
        if several:
            each = scores_by_target(judged, task.kind, outputs[ids], y[ids])
            by_name = dict(zip(task.targets, each, strict=True))
            assert record.target_scores[part] == pytest.approx(by_name, rel=1e-5)
    tried = run_trial(replace(config, stage="select"), graphs)
    assert set(tried.scores) == {"validation"}
    assert Record.from_json(tried.to_json()) == tried


def test_every_task_is_learned(graphs: GraphSet) -> None:
    if graphs.task.kind == "classification" and graphs.task.level == "graph":
        pytest.skip("its classes are drawn independently of the graphs")
    config = without_dropout(config_of(graphs, epochs=40, learning_rate=0.02, norm="batch"))
    losses = run_trial(config, graphs).history["train_loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_learning_rate_falls_linearly() -> None:
    graphs = set_of("classes")
    config = config_of(graphs)
    rates = run_trial(config, graphs).history["learning_rate"]
    assert rates == pytest.approx([0.01, 0.01 * 2 / 3, 0.01 / 3])
    constant = run_trial(replace(config, schedule="constant"), graphs)
    assert constant.history["learning_rate"] == [0.01] * 3


def test_counts_and_epochs_reported(graphs: GraphSet, config: TrialConfig) -> None:
    calls: list[int] = []
    record = run_trial(config, graphs, lambda: calls.append(1))
    assert len(calls) == 3
    split = split_items(graphs, SplitConfig(**config.split))
    training_graphs = len(split.train)
    if graphs.task.level == "node":
        training_graphs = len(torch.bucketize(split.train, graphs.ptr[1:], right=True).unique())
    full, rest = divmod(training_graphs, 16)
    # A last graph that is alone is in the batch before it.
    assert record.counts["steps_per_epoch"] == max(1, full + (rest > 1))


@pytest.mark.parametrize(
    ("graphs", "size", "expected"),
    [
        (33, 16, [16, 17]),
        (32, 16, [16, 16]),
        (34, 16, [16, 16, 2]),
        (17, 16, [17]),
        (5, 16, [5]),
        (1, 16, [1]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
    ],
)
def test_a_last_graph_alone_joins_the_batch_before_it(graphs, size, expected) -> None:
    assert batch_sizes(graphs, size) == expected


class PooledNorm(torch.nn.Module):
    """A model with a BatchNorm behind the readout, which takes no single graph."""

    def __init__(self, in_channels: int, out_channels: int, norm) -> None:
        super().__init__()
        self.lin = torch.nn.Linear(in_channels, 8)
        self.norm = norm(8)
        self.pooled = torch.nn.BatchNorm1d(8)
        self.head = torch.nn.Linear(8, out_channels)

    def forward(self, x, batch, batch_size):
        x = self.norm(self.lin(x), batch, batch_size)
        pooled = x.new_zeros(batch_size, 8).index_add(0, batch, x)
        SEEN.append((self.training, batch_size, len(x)))
        return self.head(self.pooled(pooled))


SEEN: list[tuple[bool, int, int]] = []


@pytest.mark.parametrize("norm", ["none", "batch", "graph", "instance"])
def test_models_with_a_norm_behind_the_readout_are_trained_on_any_number(norm: str) -> None:
    graphs = set_of("classes")
    own = OwnModelConfig(name="tests:PooledNorm", source="0" * 16)
    split = SplitConfig(kind="fold", folds=4).to_dict()
    config = config_of(graphs, norm=norm, model=own.to_dict(), epochs=1, split=split, batch_size=7)
    SEEN.clear()
    record = run_trial(config, graphs, factory=PooledNorm, measured=False)
    assert (record.status, record.reason) == ("done", "")
    number = len(split_items(graphs, SplitConfig(**config.split)).train)
    sizes = [batch_size for training, batch_size, _ in SEEN if training]
    assert number == 29
    assert sizes == [7, 7, 7, 8]
    # All norms see the same graphs: nodes of each batch, worked out by hand from the seed.
    order = torch.randperm(
        number, generator=torch.Generator().manual_seed(derive_seed(config.seed, "order"))
    )
    train = split_items(graphs, SplitConfig(**config.split)).train[order]
    counts = graphs.ptr.diff()[train]
    expected = [int(part.sum()) for part in counts.split(sizes)]
    assert [nodes for training, _, nodes in SEEN if training] == expected


def test_sampled_neighbours_train_on_the_nodes_of_the_minibatch() -> None:
    graphs = set_of("node-one")
    config = without_dropout(replace(config_of(graphs), norm="none", epochs=3, batch_size=300))
    model = {**ModelConfig(name="gin", layers=2, hidden=8, head="node", dropout=0.0).to_dict()}
    config = replace(config, model=model)
    whole = run_trial(config, graphs)
    every = run_trial(replace(config, num_neighbors=(-1,)), graphs)
    assert every.history["train_loss"] == pytest.approx(whole.history["train_loss"], rel=1e-4)
    few = replace(config, num_neighbors=(3, 2), batch_size=16, norm="graph")
    first, again = (run_trial(few, graphs) for _ in range(2))
    assert first.outcome == again.outcome
    assert first.history == again.history
    assert first.counts["steps_per_epoch"] == len(batch_sizes(first.counts["train_items"], 16)) > 3
    other = run_trial(replace(few, num_neighbors=(3, 3)), graphs)
    assert other.history["train_loss"] != first.history["train_loss"]
    with pytest.raises(
        ValueError, match="3 entries, expected one for all or one for each of the 2"
    ):
        run_trial(replace(few, num_neighbors=(3, 2, 1)), graphs)
    with pytest.raises(ValueError, match="samples nodes of one graph"):
        run_trial(replace(config_of(set_of("classes")), num_neighbors=(3,)), set_of("classes"))


def test_a_last_graph_of_one_node_kills_no_trial_with_batch_norm() -> None:
    few = random_graphs(9, 6, 5)
    counts = few.ptr.diff()
    keep = torch.cat([torch.tensor([int(few.ptr[i])]) for i in range(9)])  # a node of each
    assert int(counts.min()) >= 1
    graphs = GraphSet(
        name="single nodes",
        x=few.x[keep],
        ptr=torch.arange(10),
        edge_ptr=torch.zeros(10).long(),
        edge_index=torch.zeros(0, dtype=torch.int64),
        y=torch.arange(9) % 2,
        task=replace(CLASSES, targets=("a", "b")),
        features="made up",
    )
    split = SplitConfig(kind="fold", folds=3)
    assert len(split_items(graphs, split).train) == 5
    config = config_of(graphs, norm="batch", split=split.to_dict(), batch_size=2)
    record = run_trial(config, graphs)
    assert (record.status, record.reason) == ("done", "")


def test_one_graph_to_train_on_is_refused_in_one_line() -> None:
    graphs = set_of("numbers").subset(torch.arange(4))
    graphs = with_targets(graphs, NUMBERS, graphs.y, torch.tensor([0, 1, 2, 2]).to(torch.int8))
    config = config_of(graphs, split=SplitConfig(kind="given").to_dict())
    with pytest.raises(ValueError, match="has 1 graph, expected 2 or more"):
        run_trial(config, graphs)


def test_what_the_process_has_set_does_not_count() -> None:
    graphs = set_of("classes")
    config = config_of(graphs)
    before = run_trial(config, graphs)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.set_autocast_enabled("cpu", True)
    try:
        after = run_trial(config, graphs)
        assert torch.get_default_dtype() == torch.float64, "it is left as it was"
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        torch.set_autocast_enabled("cpu", False)
    assert after.without_timing() == before.without_timing()


def test_the_outcome_is_that_of_the_best_epoch(graphs: GraphSet, config: TrialConfig) -> None:
    """By validation score, of equals by validation loss, the first of equals in both."""
    record = run_trial(replace(config, epochs=12, learning_rate=0.05), graphs)
    sign = 1 if graphs.task.kind == "regression" else -1
    scores, losses = record.history["validation_score"], record.history["validation_loss"]
    best = min(range(12), key=lambda epoch: (sign * scores[epoch], losses[epoch]))
    assert record.outcome["epoch"] == best + 1
    assert record.outcome["validation_score"] == scores[best]
    assert record.outcome["validation_loss"] == losses[best]
    assert set(record.outcome) == {
        "epoch",
        "validation_score",
        "validation_loss",
        "test_score",
        "test_loss",
    }


def test_test_items_are_evaluated_when_the_validation_improves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graphs = set_of("numbers")
    epochs: list[int] = []
    of_items = Training.score

    def counted(trial: Training, items: Items, outputs: Tensor) -> Judged:
        epochs.extend([1] * (items is trial.test))
        return of_items(trial, items, outputs)

    monkeypatch.setattr(Training, "score", counted)
    record = run_trial(config_of(graphs, epochs=12, learning_rate=0.05), graphs)
    scores = record.history["validation_score"]
    assert len(epochs) == sum(
        score < min([math.inf, *scores[:k]]) for k, score in enumerate(scores)
    )
    assert len(epochs) < 12


@pytest.mark.parametrize("stage", ["final", "paper"])
def test_training_scores_are_those_of_eval_mode(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the order of two norms is another while they train: dropout, statistics of batches."""
    graphs = set_of("classes")
    edges = graphs.edge_ptr[graphs.ptr].diff()
    y = (graphs.ptr.diff() > 9).long() + (edges > 16).long()
    graphs = with_targets(graphs, CLASSES, y)
    ids = split_items(graphs, SplitConfig(kind="fold", folds=5)).train
    found, evaluated, training = {}, {}, {}
    for norm in ("batch", "graph"):
        config = config_of(graphs, norm=norm, schedule="constant", stage=stage, epochs=2)
        config = replace(config, model={**config.model, "dropout": 0.3})
        found[norm] = run_trial(config, graphs).history["train_score"]
        trial = Training(config, graphs)
        batch, shares = graphs.batch(ids), []
        evaluated[norm] = []
        for epoch in range(2):
            asked = mock.Mock(wraps=trial.objective.loss)
            monkeypatch.setattr(Objective, "loss", asked)
            trial.train_epoch(epoch)
            monkeypatch.undo()
            outputs, targets = asked.call_args.args  # the last ones: of all steps
            shares.append((outputs.argmax(1) == targets).double().mean())
            with torch.no_grad():
                z = trial.model.eval()(batch.x, batch.adjacency, batch.segments)
            evaluated[norm].append(float((z.argmax(1) == y[ids]).double().mean()))
        training[norm] = [float(share) for share in shares]
    assert found == evaluated
    assert evaluated["batch"][1] < evaluated["graph"][1] - 0.1
    assert training["batch"][1] > training["graph"][1] + 0.1


@pytest.mark.parametrize("name", ["node-one", "numbers"])
def test_training_items_among_those_validated_are_not_computed_again(name: str) -> None:
    graphs = set_of(name)
    trial = Training(config_of(graphs), graphs)
    trial.train_epoch(0)
    _, outputs = trial.validate()
    calls = []
    trial.model.register_forward_hook(lambda *_: calls.append(1))
    trial.outputs(trial.training, outputs)
    assert len(calls) == (name == "numbers")


def test_what_chooses_a_learning_rate_does_not_score_training_items() -> None:
    graphs = set_of("numbers")
    select = run_trial(config_of(graphs, stage="select"), graphs)
    assert "train_score" not in select.history
    assert len(select.history["train_loss"]) == 3


def test_what_chooses_the_learning_rate_sees_no_test_items() -> None:
    graphs = set_of("classes")
    final = run_trial(config_of(graphs), graphs)
    select = run_trial(config_of(graphs, stage="select"), graphs)
    assert select.counts["test_items"] == 0 < final.counts["test_items"]
    assert set(select.outcome) == {"epoch", "validation_score", "validation_loss"}
    scored = final.history.pop("train_score")
    assert len(scored) == 3
    assert select.history == final.history, "and is trained alike"


def test_without_test_items_there_is_no_test_score() -> None:
    graphs = set_of("classes")
    split = SplitConfig(kind="paper", folds=5).to_dict()
    record = run_trial(config_of(graphs, stage="paper", split=split), graphs)
    assert record.counts["test_items"] == 0
    assert set(record.outcome) == {"epoch", "validation_score", "validation_loss"}


@pytest.mark.parametrize("name", ["node-one", "node-many"])
def test_nodes_of_other_parts_are_not_trained_on(name: str) -> None:
    graphs = set_of(name)
    y = torch.where(graphs.split == 0, graphs.y, 2 - graphs.y)
    other = with_targets(graphs, graphs.task, y, graphs.split)
    first, second = (run_trial(config_of(each), each).history for each in (graphs, other))
    assert first["train_loss"] == second["train_loss"]
    assert first["train_score"] == second["train_score"]
    assert first["validation_loss"] != second["validation_loss"]


@pytest.mark.parametrize(
    "norm", ["batch", "power", "diff-group", "super", "hetero-batch", "united", "granola"]
)
def test_norms_with_a_memory_or_needs_on_nodes_of_one_graph(norm: str) -> None:
    graphs = set_of("node-one")
    record = run_trial(config_of(graphs, norm=norm, epochs=2), graphs)
    assert record.status == "done"
    assert np.isfinite(list(record.outcome.values())).all()


@pytest.mark.parametrize(("norm", "warmup"), [("power", 4), ("power:warmup=30", 30)])
def test_power_norm_warms_up_for_a_tenth_of_the_steps(norm: str, warmup: int) -> None:
    """Of 40."""
    graphs = set_of("classes")
    config = config_of(graphs, norm=norm, epochs=20)
    assert Training(config, graphs).counts()["steps_per_epoch"] * 20 == 40
    trained = train(config, graphs)[1]
    assert trained is not None
    norms = [module for module in trained.modules() if isinstance(module, PowerNorm)]
    assert [layer.warmup for layer in norms] == [warmup] * 4
    assert trained.norm == f"power:warmup={warmup}"  # that of the file


@pytest.mark.parametrize("name", ["answers", "node-one", "node-many"])
def test_subgraph_factors_are_worked_out_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a minibatch are its own, in its order, and no step works them out again."""
    graphs = set_of(name)
    training = Training(config_of(graphs, norm="super"), graphs)
    ids = training.training.graph_ids.flip(0)[:20]
    batch, _, factors = training.training.minibatch(ids)
    assert torch.equal(factors, subgraph_factors(batch.adjacency, level=graphs.task.level))
    monkeypatch.delattr("graphnorms.models.gnn.subgraph_factors")
    training.train_epoch(0)
    training.validate()


def test_a_loss_that_is_not_finite_is_a_failure() -> None:
    graphs = set_of("classes")
    record = run_trial(config_of(graphs, norm="none", learning_rate=1e20, epochs=30), graphs)
    assert record.status == "failed"
    assert "loss was not finite in epoch" in record.reason
    assert len(record.history["train_loss"]) == int(record.reason.split()[-1]) - 1
    assert record.outcome == {}


def test_what_does_not_fit_is_refused() -> None:
    graphs = set_of("classes")
    config = config_of(graphs)
    for change, message in (
        ({"fingerprint": "0" * 16}, r"the fingerprint of .* was the file changed"),
        ({"metric": "mae"}, "metric 'mae' does not score classification tasks"),
        (
            {"model": {**config.model, "head": "node"}},
            "is 'node', expected 'graph' for graph classification, 3 classes",
        ),
        ({"model": {**config.model, "name": "gine"}}, "which the model 'gine' needs"),
    ):
        with pytest.raises(ValueError, match=message):
            run_trial(replace(config, **change), graphs)


def test_validation_items_with_one_answer_choose_no_epoch() -> None:
    graphs = random_graphs(30, 9, 5)
    answers = with_targets(graphs, ANSWERS, torch.zeros(30, 2))
    with pytest.raises(ValueError, match="ROC-AUC is undefined for the 3 validation items"):
        run_trial(config_of(answers, split=SplitConfig(kind="random").to_dict()), answers)


def test_numbers_that_are_all_the_same() -> None:
    graphs = set_of("numbers")
    y = graphs.y.clone()
    y[:, 1] = 7.0
    same = with_targets(graphs, graphs.task, y)
    record = run_trial(config_of(same), same)
    assert record.status == "done"


def test_numbers_that_are_all_the_same_have_no_deviation() -> None:
    """The mean of three times 0.1 is rounded: it is not their spread that is left."""
    task = replace(NUMBERS, targets=("one", "other"))
    y = torch.tensor([[0.1, 1.0], [0.1, 2.0], [0.1, torch.nan]], dtype=torch.float64)
    assert (y[:, 0].mean() - 0.1).abs() > 0
    objective = Objective.of(task, y)
    assert objective.std is not None
    assert objective.std.tolist() == [1.0, 0.5]
    given = torch.zeros(1, 2), torch.tensor([[3.0, 0.5]])
    assert objective.judge("std_mae", *given).score == 0.5, "that of the number that varies"
    scores, by_target = objective.all_scores("std_mae", *given)
    assert scores["std_mae"] == 0.5
    assert by_target == {"one": 3.0, "other": 0.25}


@pytest.mark.parametrize("metric", ["mae", "rmse"])
def test_numbers_count_alike_whatever_their_unit(metric: str) -> None:
    """Epochs and weights are the same in other units, and so is the score that chooses."""
    graphs = set_of("numbers")
    other = with_targets(graphs, graphs.task, graphs.y.double() * torch.tensor([1e-6, 1e9]))
    records = [
        run_trial(config_of(each, epochs=8, norm="none", metric=metric), each)
        for each in (graphs, other)
    ]
    histories = [record.history for record in records]
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=1e-4), name
    assert records[0].outcome["epoch"] == records[1].outcome["epoch"]
    for part in ("validation", "test"):
        first, second = (record.target_scores[part] for record in records)
        assert second["size"] == pytest.approx(1e-6 * first["size"], rel=1e-4)
        assert second["edges"] == pytest.approx(1e9 * first["edges"], rel=1e-4)
        train = split_items(graphs, SplitConfig(kind="fold", folds=5)).train
        std = np.nanstd(graphs.y[train].double().numpy(), 0)
        mean = (first["size"] / std[0] + first["edges"] / std[1]) / 2
        assert records[0].outcome[f"{part}_score"] == pytest.approx(mean, rel=1e-9)


@pytest.mark.parametrize("offset", [16777216.0, 1e8, 1e12])
def test_an_offset_of_the_numbers_changes_nothing(offset: float) -> None:
    """Total energies differ by little of themselves; float32 keeps multiples of 8 of 1e8."""
    graphs = set_of("numbers")
    task = replace(NUMBERS, targets=("energy",))
    y = torch.arange(60.0, dtype=torch.float64).remainder(2).view(-1, 1)
    y[7] = torch.nan
    near, far = (with_targets(graphs, task, y + shift) for shift in (0.0, offset))
    assert near.fingerprint != far.fingerprint
    records = []
    for each in (near, far):
        record, predictor = train(config_of(each, norm="none"), each)
        assert predictor is not None
        batch = each.batch(torch.arange(60))
        records.append((record, predictor(batch) - (offset if each is far else 0.0)))
    (first, one), (second, other) = records
    assert first.outcome["test_score"] == pytest.approx(second.outcome["test_score"], rel=1e-3)
    assert 0.1 < first.outcome["test_score"] < 1
    torch.testing.assert_close(one, other, rtol=0, atol=1e-3)
    assert first.target_scores == {}


def test_all_parts_share_the_batch_of_a_single_graph() -> None:
    graphs = set_of("node-one")
    trial = Training(config_of(graphs), graphs)
    first, again = (trial.training.minibatch(torch.tensor([0]))[0] for _ in range(2))
    assert first is again
    assert first is trial.validation.minibatch(torch.tensor([0]))[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_no_step_waits_for_a_gpu(graphs: GraphSet) -> None:
    trial = Training(config_of(graphs, device="cuda"), graphs)
    trial.train_epoch(0)
    trial._mean_loss = waiting.allowed()(trial._mean_loss)  # type: ignore[method-assign]
    with waiting.refused():
        trial.train_epoch(1)
