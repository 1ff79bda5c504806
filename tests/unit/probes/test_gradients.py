from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import graphnorms as gn
from graphnorms.models import GNN, ModelConfig
from graphnorms.probes import activation_gradient_norms, gradient_norms
from tests.unit.probes.common import Quadratic, draw, symmetric


def test_the_norm_of_a_known_gradient() -> None:
    """L = mean of w·x + b: the gradient is the mean of x, and 1."""
    model = nn.Linear(3, 1).double()
    x = draw(10, 3)
    expected = {"weight": float(x.mean(0).norm()), "bias": 1.0}
    found = gradient_norms(model, lambda: model(x).mean(), by="parameter")
    assert found == pytest.approx(expected, rel=1e-14)
    layer = gradient_norms(model, lambda: model(x).mean())
    assert layer == pytest.approx({"": math.hypot(*expected.values())}, rel=1e-14)


def test_the_norm_of_the_gradient_of_a_quadratic() -> None:
    matrix, w = symmetric([1, -2, 3, 4, 5, 6]), draw(6)
    model = Quadratic(matrix, w)
    gradient = matrix @ w
    assert gradient_norms(model, model, by="parameter") == pytest.approx(
        {"first": float(gradient[:4].norm()), "second": float(gradient[4:].norm())}, rel=1e-13
    )


def test_layers_of_a_product_of_matrices() -> None:
    """L = c·(W₃W₂W₁x): each gradient is an outer product, and its norm a product of norms."""
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(3))).double()
    x, c = draw(1, 4), draw(4, seed=1)
    w1, w2, w3 = (layer.weight.detach() for layer in model)
    signals = [w2.T @ w3.T @ c, w3.T @ c, c]
    inputs = [x[0], w1 @ x[0], w2 @ w1 @ x[0]]

    def loss() -> torch.Tensor:
        return (model(x) @ c).sum()

    assert gradient_norms(model, loss) == pytest.approx(
        {str(i): float(signals[i].norm() * inputs[i].norm()) for i in range(3)}, rel=1e-13
    )
    assert activation_gradient_norms(model, loss, "012") == pytest.approx(
        {str(i): float(signals[i].norm()) for i in range(3)}, rel=1e-13
    )
    assert activation_gradient_norms(model, loss, ["2"], side="input") == pytest.approx(
        {"2": float((w3.T @ c).norm())}, rel=1e-13
    )


def test_the_gradient_of_features_that_are_overwritten_in_place() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True)).double()
    x = draw(6, 3)
    expected = float((model[0](x) > 0).sum()) ** 0.5
    found = activation_gradient_norms(model, lambda: model(x).sum(), ["0"])["0"]
    assert found == pytest.approx(expected)


def test_a_layer_that_is_called_twice() -> None:
    """y = w(wx), at w = 3: ∂y/∂(wx) is w and ∂y/∂y is 1; both count."""
    layer = nn.Linear(1, 1, bias=False)
    model = nn.ModuleDict({"twice": layer})
    nn.init.constant_(layer.weight, 3)
    found = activation_gradient_norms(model, lambda: layer(layer(torch.ones(1, 1))), ["twice"])
    assert found == pytest.approx({"twice": math.sqrt(9 + 1)})


def test_what_the_loss_does_not_see_has_norm_zero() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "unused": nn.Linear(2, 1)})

    def loss() -> torch.Tensor:
        model["unused"](torch.ones(1, 2))
        return model["used"](torch.ones(1, 2)).sum()

    assert gradient_norms(model, loss)["unused"] == 0
    norms = activation_gradient_norms(model, loss, ["used", "unused"])
    assert norms == {"used": 1.0, "unused": 0.0}


def test_on_a_model_of_the_package() -> None:
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    adjacency, segments = gn.Adjacency.from_edge_index(edges, 3), gn.Segments.single(3)
    model = GNN(ModelConfig(name="gin", hidden=8), "graph", 2, 2, seed=0)
    model.eval()

    def loss() -> torch.Tensor:
        y = model(torch.ones(3, 2), adjacency, segments)
        return nn.functional.cross_entropy(y, torch.tensor([1]))

    norms = gradient_norms(model, loss)
    loss().backward()
    head = torch.cat([p.grad.reshape(-1) for p in model.head.parameters()])
    assert norms["head"] == pytest.approx(float(head.norm()), rel=1e-5)


def test_half_precision_does_not_overflow() -> None:
    model = nn.Linear(4, 1, bias=False).half()
    x = torch.full((1, 4), 300.0, dtype=torch.float16)
    norm = gradient_norms(model, lambda: model(x).sum())[""]
    assert norm == pytest.approx(600)


def test_errors() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1))
    x = torch.ones(1, 2)
    with pytest.raises(ValueError, match="unknown by 'unit'"):
        gradient_norms(model, lambda: model[0](x).sum(), by="unit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'1' was not called"):
        activation_gradient_norms(model, lambda: model[0](x).sum(), ["1"])
    with pytest.raises(ValueError, match="takes no gradient"):
        activation_gradient_norms(model, lambda: model[0](x).sum(), ["0"], side="input")


def test_a_loss_with_a_gradient_in_it_counts_once() -> None:
    """A loss that holds forces differentiates the features before the loss is differentiated."""
    model = nn.Sequential(nn.Linear(2, 3, dtype=torch.float64), nn.Tanh())
    x = torch.tensor([[0.3, -0.2], [0.1, 0.7]]).double().requires_grad_()

    def loss() -> torch.Tensor:
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return slope.square().sum()

    found = activation_gradient_norms(model, loss, ["0"])["0"]
    z = model[0](x).detach().requires_grad_()
    slope = (1 - z.tanh() ** 2) @ model[0].weight.detach()
    (expected,) = torch.autograd.grad(slope.square().sum(), z)
    assert found == pytest.approx(float(expected.norm()), rel=1e-12)
