"""Every score against scikit-learn or NumPy, with missing targets and ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch import Tensor

from graphnorms.training.metrics import DEFAULT_METRICS, METRICS, metric_named, score


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
    outputs, y = draw(30, 2).double(), draw(30, 2, seed=1) + 100
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
    classes = kind == "classification"
    y = torch.full((4,), -1) if classes else torch.full((4, 2), torch.nan)
    assert math.isnan(score(name, kind, draw(4, 2), y))


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
    with pytest.raises(ValueError, match="unknown metric 'auc'"):
        metric_named("auc")
