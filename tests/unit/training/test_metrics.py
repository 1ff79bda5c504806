"""Every score against scikit-learn or NumPy, with missing targets and ties."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch import Tensor

from graphnorms.data import Task
from graphnorms.training.class_scores import OF_ORDER
from graphnorms.training.metrics import (
    DEFAULT_METRICS,
    METRICS,
    metric_for,
    metric_named,
    metrics_of,
)
from graphnorms.training.scores import score, scores_by_target


def draw(items: int, outputs: int, seed: int = 0) -> Tensor:
    """Scores to one digit, so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(items, outputs, generator=generator).mul(10).round().div(10)


def answers(items: int, questions: int, missing: float, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(items, questions, generator=generator) < 0.3).float()
    y[torch.rand(items, questions, generator=generator) < missing] = torch.nan
    return y


def test_accuracy_of_classes() -> None:
    outputs, y = draw(50, 3), torch.arange(50) % 4 - 1
    known = y >= 0
    expected = oracle.accuracy_score(y[known], outputs[known].argmax(1))
    assert score("accuracy", "classification", outputs, y) == pytest.approx(expected, abs=1e-15)


def test_accuracy_of_answers() -> None:
    outputs, y = draw(40, 3), answers(40, 3, 0.4)
    known = ~y.isnan()
    expected = oracle.accuracy_score(y[known], (outputs > 0).float()[known])
    assert score("accuracy", "binary", outputs, y) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "function"),
    [("roc_auc", oracle.roc_auc_score), ("average_precision", oracle.average_precision_score)],
)
def test_curves_are_those_of_sklearn(name: str, function: object, seed: int) -> None:
    """Mean over the questions with both answers: one has none missing, one has only "no"."""
    outputs, y = draw(60, 5, seed), answers(60, 5, 0.5, seed + 100)
    y[:, 0] = y[:, 0].nan_to_num(1.0)
    y[:, 3] = torch.where(y[:, 3].isnan(), torch.nan, 0.0)
    y[:, 4] = torch.nan
    expected = []
    for question in range(3):
        known = ~y[:, question].isnan()
        expected.append(function(y[known, question], outputs[known, question]))  # type: ignore[operator]
    assert score(name, "binary", outputs, y) == pytest.approx(np.mean(expected), rel=1e-12)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize("answer", [0.0, 1.0, math.nan])
def test_a_question_with_one_answer_says_nothing(name: str, answer: float) -> None:
    assert math.isnan(score(name, "binary", draw(9, 2), torch.full((9, 2), answer)))
    assert math.isnan(score(name, "binary", draw(0, 2), torch.zeros(0, 2)))


def test_errors_of_numbers() -> None:
    outputs, y = draw(30, 1).double(), draw(30, 1, seed=1) + 100
    y[::3, 0] = torch.nan
    known = ~y.isnan()
    pair = (y[known], outputs[known])
    assert score("mae", "regression", outputs, y) == pytest.approx(
        oracle.mean_absolute_error(*pair), rel=1e-12
    )
    assert score("rmse", "regression", outputs, y) == pytest.approx(
        oracle.root_mean_squared_error(*pair), rel=1e-12
    )


@pytest.mark.parametrize(
    ("name", "kind"), [(m.name, kind) for m in METRICS.values() for kind in m.kinds]
)
def test_nothing_known_is_no_number(name: str, kind: str) -> None:
    outputs = {"regression": 1, "forces": 4}.get(kind, 2)
    columns = 5 if kind == "forces" else outputs  # and the share of the frame
    y = torch.full((4,), -1) if kind == "classification" else torch.full((4, columns), torch.nan)
    assert math.isnan(score(name, kind, draw(4, outputs), y, torch.ones(outputs)))


@pytest.mark.parametrize(
    ("name", "function"),
    [("std_mae", oracle.mean_absolute_error), ("std_rmse", oracle.root_mean_squared_error)],
)
def test_errors_of_several_numbers_count_in_their_deviations(name: str, function: object) -> None:
    """A number counts as much as another, whatever its unit and however many of it are missing."""
    unit = torch.tensor([1.0, 1e6, 1e-9])
    y, outputs = draw(30, 3).double() * unit, draw(30, 3, seed=1).double() * unit
    y[::2, 0] = torch.nan
    std = np.array([2.0, 3e6, 0.5e-9])
    expected = []
    for number in range(3):
        known = ~y[:, number].isnan()
        error = function(y[known, number], outputs[known, number])  # type: ignore[operator]
        expected.append(error / std[number])
    found = score(name, "regression", outputs, y, torch.from_numpy(std))
    assert found == pytest.approx(np.mean(expected), rel=1e-12)


def test_a_useless_number_is_not_hidden_behind_a_large_one() -> None:
    """y is off by 0.1% in the second number, or by all there is in the first."""
    y = torch.tensor([[1.0, 1e6], [2.0, 2e6], [3.0, 3e6]])
    std = y.double().std(0, correction=0)
    near, useless = y.clone(), y.clone()
    near[:, 1] += 1000
    useless[:, 0] = 2
    found = [score("std_mae", "regression", outputs, y, std) for outputs in (near, useless)]
    deviation = math.sqrt(2 / 3)
    assert found == pytest.approx([0.001 / deviation / 2, (2 / 3) / deviation / 2], rel=1e-12)


def test_numbers_that_are_missing_or_do_not_vary_are_left_out() -> None:
    y = torch.tensor([[1.0, math.nan, 5.0], [2.0, math.nan, 5.0]])
    std = torch.tensor([0.5, 1.0, 0.0])
    assert score("std_mae", "regression", y + 1, y, std) == 2.0
    assert math.isnan(score("std_mae", "regression", y.new_full((2, 3), math.nan), y, std))
    assert math.isnan(score("std_mae", "regression", y, y, torch.zeros(3)))


def test_numbers_of_different_units_have_no_error_in_common() -> None:
    y = draw(5, 2)
    with pytest.raises(ValueError, match=r"for 2 targets; use 'std_mae'"):
        score("mae", "regression", y, y)
    with pytest.raises(ValueError, match="'std_rmse' needs std"):
        score("std_rmse", "regression", y, y)
    several = Task(kind="regression", targets=("a", "b"))
    assert metric_for("mae", several) is METRICS["std_mae"] is metric_for("std_mae", several)
    assert metric_for("rmse", several) is METRICS["std_rmse"]
    assert metric_for("mae", Task(kind="regression", targets=("a",))) is METRICS["mae"]
    questions = Task(kind="binary", targets=("a", "b"))
    assert metric_for("accuracy", questions) is METRICS["accuracy"]


def test_errors_of_large_numbers_keep_their_differences() -> None:
    y = torch.tensor([[16777216.0], [16777217.0]], dtype=torch.float64)
    assert score("mae", "regression", torch.full_like(y, 16777216.0), y) == 0.5
    assert score("rmse", "regression", y + 1e-3, y) == pytest.approx(1e-3, rel=1e-5)


def test_directions() -> None:
    assert METRICS["roc_auc"].better(0.9, 0.8)
    assert METRICS["mae"].better(0.8, 0.9)
    assert not METRICS["mae"].better(0.9, 0.9)
    assert not METRICS["mae"].better(math.nan, 0.9)


def test_metrics_of_a_task() -> None:
    for kind, name in DEFAULT_METRICS.items():
        assert metric_named(name, kind).name == name
    with pytest.raises(ValueError, match="metric 'mae' does not score binary tasks; expected acc"):
        metric_named("mae", "binary")
    with pytest.raises(ValueError, match=r"mcc, or the task binary if there are two classes$"):
        metric_named("roc_auc", "classification")
    with pytest.raises(ValueError, match="unknown metric 'auc'"):
        metric_named("auc")


CLASS_SCORES = [
    ("balanced_accuracy", oracle.balanced_accuracy_score),
    ("macro_f1", functools.partial(oracle.f1_score, average="macro", zero_division=0.0)),
    ("mcc", oracle.matthews_corrcoef),
]


@pytest.mark.filterwarnings("ignore:y_pred contains classes:UserWarning")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "function"), CLASS_SCORES)
def test_scores_of_classes_are_those_of_sklearn(
    name: str, function: Callable[..., float], seed: int
) -> None:
    """Of five classes one does not occur, one is never predicted, and some targets are missing."""
    outputs = draw(80, 5, seed)
    outputs[:, 1] = -9.0
    y = torch.randint(0, 5, (80,), generator=torch.Generator().manual_seed(seed + 50)) - 1
    y[y == 2] = 3
    known = y >= 0
    expected = function(y[known].numpy(), outputs[known].argmax(1).numpy())
    assert score(name, "classification", outputs, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "function"), CLASS_SCORES)
def test_scores_of_answers_are_means_over_the_questions(
    name: str, function: Callable[..., float], seed: int
) -> None:
    """Of four questions one has no answer at all, which is left out."""
    outputs, y = draw(70, 4, seed), answers(70, 4, 0.4, seed + 100)
    y[:, 2] = torch.nan
    expected = []
    for question in (0, 1, 3):
        known = ~y[:, question].isnan()
        expected.append(function(y[known, question], (outputs[known, question] > 0).float()))
    assert score(name, "binary", outputs, y) == pytest.approx(np.mean(expected), rel=1e-12)
    by_target = scores_by_target(name, "binary", outputs, y)
    assert [by_target[place] for place in (0, 1, 3)] == pytest.approx(expected, rel=1e-12)
    assert math.isnan(by_target[2])


def test_constant_predictions_and_constant_targets() -> None:
    """One class predicted: recall 1 of it, F1 of 2/3 and 0, no correlation. One class: by hand."""
    y = torch.tensor([0, 0, 1, 1])
    constant = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    found = {name: score(name, "classification", constant, y) for name, _ in CLASS_SCORES}
    assert found == pytest.approx({"balanced_accuracy": 1 / 2, "macro_f1": 1 / 3, "mcc": 0.0})
    outputs = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    one = torch.zeros(3, dtype=torch.int64)
    assert score("balanced_accuracy", "classification", outputs, one) == pytest.approx(2 / 3)
    assert score("macro_f1", "classification", outputs, one) == pytest.approx(0.8 / 2)
    assert math.isnan(score("mcc", "classification", outputs, one))


@pytest.mark.parametrize("seed", range(3))
def test_r2_is_that_of_sklearn(seed: int) -> None:
    """Mean over the numbers that vary; their units and offsets do not matter."""
    unit = torch.tensor([1.0, 1e6, 1e-9, 1.0])
    y, outputs = draw(40, 4, seed).double() * unit, draw(40, 4, seed + 9).double() * unit
    y[:, 1] += 1e8
    outputs[:, 1] += 1e8
    y[::3, 0] = torch.nan
    y[:, 3] = 0.1
    expected = []
    for number in range(3):
        known = ~y[:, number].isnan()
        expected.append(oracle.r2_score(y[known, number], outputs[known, number]))
    found = scores_by_target("r2", "regression", outputs, y)
    assert found[:3] == pytest.approx(expected, rel=1e-9)
    assert math.isnan(found[3])
    assert score("r2", "regression", outputs, y) == pytest.approx(np.mean(expected), rel=1e-9)
    mean = y[:, :1].nanmean(0).expand(40, 1)
    assert score("r2", "regression", mean, y[:, :1]) == pytest.approx(0, abs=1e-15)


def test_which_metrics_fit_a_task() -> None:
    def names(kind: str, *targets: str) -> set[str]:
        return {m.name for m in metrics_of(Task(kind=kind, targets=targets))}

    classes = {"accuracy", "balanced_accuracy", "macro_f1", "mcc"}
    assert names("classification", "a", "b", "c") == classes
    assert names("binary", "q") == names("binary", "q", "r") == classes | set(OF_ORDER)
    assert names("regression", "y") == {"mae", "rmse", "r2"}
    assert names("regression", "y", "z") == {"std_mae", "std_rmse", "r2"}
    assert metric_for("r2", Task(kind="regression", targets=("y", "z"))).name == "r2"
