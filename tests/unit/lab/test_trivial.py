"""What a predictor scores that looks at no graph, against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics

from graphnorms.data import Task, load_dataset, random_graphs, split_items
from graphnorms.lab.options import Options
from graphnorms.lab.resolve import resolve
from graphnorms.lab.schedule import Schedule, code_versions
from graphnorms.lab.trivial import Trivial, beats, trivial_score, trivial_scores
from graphnorms.training.metrics import METRICS

NAN = math.nan


@pytest.mark.parametrize(
    ("metric", "kind", "targets", "right"),
    [
        ("accuracy", "classification", [0, 2, 2, 1, 2, -1], 3 / 5),
        ("accuracy", "binary", [[1, 0], [1, NAN], [0, 0]], 4 / 5),
        ("accuracy", "binary", [[1.0], [0.0]], 1 / 2),
        ("roc_auc", "binary", [[1, 0], [0, 1], [0, NAN]], 1 / 2),
        ("average_precision", "binary", [[1, 0], [0, 1], [0, 1], [0, NAN]], (1 / 4 + 2 / 3) / 2),
        ("mae", "regression", [[1.0], [2.0], [6.0]], 5 / 3),
        ("rmse", "regression", [[1.0], [2.0], [6.0]], math.sqrt(14 / 3)),
    ],
)
def test_the_constant_answer_by_hand(metric, kind, targets, right) -> None:
    dtype = torch.int64 if kind == "classification" else torch.float32
    given = torch.tensor(targets, dtype=dtype)
    assert trivial_score(metric, kind, given, given) == pytest.approx(right)


def test_the_constant_is_that_of_the_training_part() -> None:
    train, test = torch.tensor([0, 0, 1]), torch.tensor([1, 1, 1, 0])
    assert trivial_score("accuracy", "classification", train, test) == 1 / 4
    train, test = torch.tensor([[0.0], [1.0], [8.0]]), torch.tensor([[1.0], [5.0]])
    assert trivial_score("mae", "regression", train, test) == 2.0  # median 1
    assert trivial_score("rmse", "regression", train, test) == 2.0  # mean 3


def test_equally_frequent_classes_are_guessed_evenly() -> None:
    """The class that is ahead in training by one graph is behind in the fold by one."""
    graphs = random_graphs(20, seed=0)
    graphs = graphs.with_targets(
        torch.arange(20) % 2, Task(kind="classification", targets=("a", "b"))
    )
    schedule = Schedule(
        settings=resolve(Options(norms=("none", "graph"), folds=4), graphs, "even"),
        fingerprint="",
        versions=code_versions(),
    )
    splits = schedule.splits(graphs)
    constants = [
        trivial_score("accuracy", "classification", graphs.y[split.train], graphs.y[split.test])
        for split in splits
    ]
    assert min(constants) < 0.5
    assert min(trivial_scores(graphs, "accuracy", splits).held_out) == 0.5


def test_several_numbers_count_in_the_deviations_of_the_training_part() -> None:
    graphs = random_graphs(40, seed=0)
    numbers = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [1, 1e6]
    )
    graphs = graphs.with_targets(numbers, Task(kind="regression", targets=("small", "large")))
    choices = Options(norms=("none", "graph"), folds=4)
    schedule = Schedule(
        settings=resolve(choices, graphs, "numbers"),
        fingerprint="",
        versions=code_versions(),
    )
    found = trivial_scores(graphs, schedule.settings.metric, schedule.splits(graphs))
    for fold in range(4):
        split = split_items(graphs, schedule.split(fold))
        held, train = (numbers[part].double().numpy() for part in (split.test, split.train))
        right = (np.abs(held - np.median(train, 0)).mean(0) / train.std(0)).mean()
        assert found.held_out[fold] == pytest.approx(right, rel=1e-6)


def test_a_constant_has_the_curves_of_scikit_learn() -> None:
    yes = np.random.default_rng(0).random(50) < 0.3
    y = torch.tensor(yes, dtype=torch.float32)[:, None]
    for metric, oracle in (
        ("roc_auc", metrics.roc_auc_score),
        ("average_precision", metrics.average_precision_score),
    ):
        assert trivial_score(metric, "binary", y, y) == pytest.approx(oracle(yes, np.ones(50)))


@pytest.mark.parametrize("protocol", ["nested", "split", "paper"])
def test_every_fold_has_its_own(protocol: str) -> None:
    mutag = load_dataset("MUTAG")
    choices = Options(norms=("none", "graph"), protocol=protocol, metric="accuracy")
    schedule = Schedule(
        settings=resolve(choices, mutag, "MUTAG"),
        fingerprint="",
        versions=code_versions(),
    )
    found = trivial_scores(mutag, schedule.settings.metric, schedule.splits(mutag))
    assert len(found.held_out) == len(found.train) == schedule.settings.folds
    for fold in range(schedule.settings.folds):
        split = split_items(mutag, schedule.split(fold))
        held = split.validation if protocol == "paper" else split.test
        for score, part in ((found.held_out[fold], held), (found.train[fold], split.train)):
            share = mutag.y[part].double().mean().item()
            assert score == pytest.approx(max(share, 1 - share))
            assert 0.6 < score < 0.75
    assert Trivial(**found.to_dict()).to_dict() == found.to_dict()


def test_a_fold_without_a_score_leaves_the_mean_unknown() -> None:
    known = Trivial(held_out=[0.6, 0.8, None], train=[0.5, 0.5, 0.5])
    assert known.mean("held_out", [(9, 0), (9, 1)]) == pytest.approx(0.7)
    assert known.mean("held_out", [(9, 0), (9, 2)]) is None
    assert known.mean("held_out", [(9, 7)]) is None
    assert known.mean("held_out", []) is None


def test_repeats_have_trivial_scores_of_their_own() -> None:
    found = Trivial(held_out=[0.1, 0.2, 0.3, 0.4], train=[0.5] * 4, folds=2, seed=9)
    assert found.mean("held_out", [(9, 1), (10, 0)]) == pytest.approx(0.25)
    assert found.mean("held_out", [(10, 1)]) == 0.4
    assert found.mean("held_out", [(11, 0)]) is None
    assert Trivial(**found.to_dict()) == found


def test_rounding_does_not_beat_chance() -> None:
    assert not beats(METRICS["accuracy"], 0.1 + 0.2, 0.3)
    assert beats(METRICS["accuracy"], 0.31, 0.3)
    assert not beats(METRICS["mae"], 0.3, 0.1 + 0.2)
    assert beats(METRICS["mae"], 0.29, 0.3)
    assert beats(METRICS["accuracy"], 0.0, None)
