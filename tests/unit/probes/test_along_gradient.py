from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from graphnorms.probes import along_gradient
from tests.unit.probes.common import Quadratic, draw, symmetric


def test_a_quadratic_in_closed_form() -> None:
    """L(w − ηg) = L − η‖g‖² + η²/2 gᵀAg, and the gradients differ by ηAg."""
    matrix, w = symmetric([9, -2, 3, 4, 5, 6]), draw(6)
    g = matrix @ w
    steps = (0.05, 0.2, 0.4)
    found = along_gradient(Quadratic(matrix, w), Quadratic(matrix, w), steps)
    model = Quadratic(matrix, w)
    found = along_gradient(model, model, steps)
    loss = float(w @ matrix @ w) / 2
    losses = [loss - s * float(g @ g) + s**2 / 2 * float(g @ matrix @ g) for s in steps]
    assert found.steps == steps
    assert found.loss == pytest.approx(loss, rel=1e-13)
    assert found.gradient_norm == pytest.approx(float(g.norm()), rel=1e-13)
    assert found.losses == pytest.approx(losses, rel=1e-12)
    assert found.loss_range == pytest.approx((min(losses), max(losses)), rel=1e-12)
    assert found.loss_spread == pytest.approx(max(losses) - min(losses), rel=1e-11)
    image = float((matrix @ g).norm())
    assert found.differences == pytest.approx([s * image for s in steps], rel=1e-12)
    assert found.largest_difference == pytest.approx(0.4 * image, rel=1e-12)
    assert found.effective_beta == pytest.approx(image / float(g.norm()), rel=1e-12)
    assert found.effective_beta <= 9


def test_beta_of_an_eigenvector_is_its_eigenvalue() -> None:
    matrix = symmetric([9, 1, 3, 4, 5, 6])
    vector = torch.linalg.eigh(matrix)[1][:, -1]
    model = Quadratic(matrix, vector)
    assert along_gradient(model, model).effective_beta == pytest.approx(9, rel=1e-12)


def test_the_largest_over_the_steps_counts() -> None:
    """L = w⁴/4 from w = 1: g = 1, L'(1 − η) = (1 − η)³."""
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    one = torch.ones(1, 1, dtype=torch.float64)
    steps = (0.0, 0.1, 1.0, 3.0)
    found = along_gradient(model, lambda: (model(one) ** 4).sum() / 4, steps)
    differences = [abs(1 - (1 - s) ** 3) for s in steps]
    assert found.differences == pytest.approx(differences)
    assert found.largest_difference == pytest.approx(9)
    assert found.effective_beta == pytest.approx(3)
    assert found.loss_range == pytest.approx((0, 4))


def test_at_a_stationary_point_there_is_no_direction() -> None:
    model = Quadratic(symmetric([1, 2, 3, 4, 5, 6]), torch.zeros(6).double())
    found = along_gradient(model, model)
    assert found.loss_spread == 0
    assert math.isnan(found.effective_beta)


@pytest.mark.parametrize("steps", [(), (0.0,), (0.1, -0.1)])
def test_steps_that_are_none_are_refused(steps: tuple[float, ...]) -> None:
    model = Quadratic(symmetric([1, 2, 3, 4, 5, 6]), draw(6))
    with pytest.raises(ValueError, match="steps are"):
        along_gradient(model, model, steps)
