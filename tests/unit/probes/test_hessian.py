from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.probes import hessian_vector_product, largest_eigenvalue
from tests.unit.probes.common import Quadratic, draw, symmetric


def test_product_with_the_hessian_of_a_quadratic() -> None:
    matrix, v = symmetric([9, -2, 3, 4, 5, 6]), draw(6, seed=4)
    model = Quadratic(matrix, draw(6))
    torch.testing.assert_close(
        hessian_vector_product(model, model, v), matrix @ v, rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize(
    "values",
    [
        [9, 1, 2, 3, 4, 5],
        [2, 1, 1, 0, 0, -8],  # the largest in size is negative
        [-1, -2, -3, -4, -5, -6],  # all are
        [3, 0, 0, 0, 0, -3],  # a plain power iteration does not converge
        [4, 4, 1, 1, 1, 1],
    ],
)
def test_the_largest_eigenvalue_of_a_quadratic(values: list[float]) -> None:
    matrix = symmetric(values)
    model = Quadratic(matrix, draw(6))
    found = largest_eigenvalue(model, model, iterations=1000, tolerance=1e-6)
    assert found.converged
    assert found.value == pytest.approx(max(values), rel=1e-8)
    v = found.vector
    assert float(v.norm()) == pytest.approx(1)
    assert float((matrix @ v - found.value * v).norm()) == pytest.approx(found.residual, abs=1e-12)
    assert found.residual <= 1.001e-6 * max(map(abs, values))


def test_a_stopped_iteration_says_so_and_is_a_lower_bound() -> None:
    matrix = symmetric([5.0, 4.9, 4.8, 4.7, 4.6, 1])
    model = Quadratic(matrix, draw(6))
    found = largest_eigenvalue(model, model, iterations=4, tolerance=1e-9)
    assert not found.converged
    assert found.value < 5
    assert found.iterations == 8
    nearest = min(abs(value - found.value) for value in [5.0, 4.9, 4.8, 4.7, 4.6, 1])
    assert nearest <= found.residual


@pytest.mark.parametrize("norm", [gn.BatchNorm, gn.GraphNorm, gn.LayerNorm, gn.InstanceNorm])
def test_of_a_network_with_a_norm(norm: type[nn.Module]) -> None:
    """Against the whole Hessian, column by column from differences of torch's own gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), norm(4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, y = draw(10, 3), torch.arange(10) % 2
    parameters = dict(model.named_parameters())

    def loss() -> Tensor:
        return nn.functional.cross_entropy(model(x), y)

    def gradient(vector: Tensor) -> Tensor:
        sizes = [p.numel() for p in parameters.values()]
        parts = zip(parameters.items(), vector.split(sizes), strict=True)
        moved = {name: part.view_as(p) for (name, p), part in parts}
        moved = {name: part.detach().requires_grad_() for name, part in moved.items()}
        value = nn.functional.cross_entropy(torch.func.functional_call(model, moved, (x,)), y)
        return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, list(moved.values()))])

    w = torch.cat([p.detach().reshape(-1) for p in parameters.values()])
    h = 1e-5
    columns = [
        (gradient(w + h * unit) - gradient(w - h * unit)) / (2 * h)
        for unit in torch.eye(w.shape[0]).double()
    ]
    hessian = torch.stack(columns)
    v = draw(w.shape[0], seed=9)
    torch.testing.assert_close(
        hessian_vector_product(model, loss, v), hessian @ v, rtol=1e-6, atol=1e-8
    )
    found = largest_eigenvalue(model, loss, iterations=300, tolerance=1e-4)
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-5)


def test_a_linear_loss_has_no_curvature() -> None:
    model = nn.Linear(3, 1)
    found = largest_eigenvalue(model, lambda: model(torch.ones(1, 3)).sum())
    assert (found.value, found.residual, found.converged) == (0, 0, True)


def test_errors() -> None:
    model = Quadratic(symmetric([1, 2, 3, 4, 5, 6]), draw(6))
    with pytest.raises(ValueError, match="one number per parameter"):
        hessian_vector_product(model, model, torch.ones(5))
    with pytest.raises(ValueError, match="iterations is 0"):
        largest_eigenvalue(model, model, iterations=0)
    with pytest.raises(ValueError, match="tolerance is 0"):
        largest_eigenvalue(model, model, tolerance=0)
