"""What is swept over: lengths that are held, and what comes before a norm."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from graphnorms.studies.swept_models import TrainingTask, final_loss, make_task

STEPS = {"mlp": 4, "gin": 2}


@pytest.mark.parametrize("model", ["mlp", "gin"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_units_keep_their_length(model: str, norm: str) -> None:
    task = make_task({"model": model, "norm": norm, "seed": 0}, STEPS)
    before = [weight.detach().clone() for weight in task.inner]
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1.0)
    assert math.isfinite(final_loss(task, optimizer, held=True))
    assert len(before) == (6 if model == "mlp" else 8)
    for old, new in zip(before, task.inner, strict=True):
        assert not torch.equal(old, new)
        torch.testing.assert_close(old.norm(dim=1), new.detach().norm(dim=1))


@pytest.mark.parametrize("factor", [0.1, 10.0])
def test_a_rate_is_an_angle_over_the_gradient(factor: float) -> None:
    """A loss w · g turns w by atan(rate · |g| / |w|), whatever its part along w."""
    model = nn.Linear(2, 1, bias=False)
    model.weight.data = torch.tensor([[factor, 0.0]])
    losses = (model(torch.tensor([5.0, 1.0])).sum() for _ in range(1))
    task = TrainingTask(model, losses, 1.0, [model.weight])
    final_loss(task, torch.optim.SGD(model.parameters(), lr=0.3), held=True)
    angle = torch.atan2(*model.weight.detach()[0].flip(0))
    assert angle.item() == pytest.approx(-math.atan(0.3 / factor), rel=1e-5)


def test_behind_a_norm_the_gain_is_gone() -> None:
    def first(norm: str, gain: float) -> float:
        task = make_task({"model": "mlp", "norm": norm, "seed": 0}, STEPS, gain)
        with torch.no_grad():
            task.model.head.weight /= gain
        return next(task.losses).item()

    assert first("batch", 10.0) == pytest.approx(first("batch", 1.0), rel=1e-3)
    assert first("none", 10.0) > 10 * first("none", 1.0)


def test_what_is_not_finite_has_diverged() -> None:
    model = nn.Linear(1, 1)
    losses = (model.weight.sum() * float("nan") for _ in range(3))
    task = TrainingTask(model, losses, 1.0, [])
    assert final_loss(task, torch.optim.SGD(model.parameters(), lr=0.1)) == math.inf
