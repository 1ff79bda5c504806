from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from graphnorms import probes
from graphnorms.probes.state import objective
from tests.unit.probes.common import Quadratic, draw, noisy_network, state, symmetric, unchanged

Probe = Callable[[nn.Module, Callable[[], Tensor]], object]

PROBES: dict[str, Probe] = {
    "activation_quantiles": lambda m, loss: probes.activation_quantiles(m, loss, ["0", "4"]),
    "gradient_norms": probes.gradient_norms,
    "activation_gradient_norms": lambda m, loss: probes.activation_gradient_norms(m, loss, ["3"]),
    "along_gradient": probes.along_gradient,
    "covariate_shift": lambda m, loss: probes.covariate_shift(m, loss, lambda: None),
    "hessian_vector_product": lambda m, loss: probes.hessian_vector_product(
        m, loss, torch.ones(sum(p.numel() for p in m.parameters())).double()
    ),
    "largest_eigenvalue": lambda m, loss: probes.largest_eigenvalue(m, loss, iterations=3),
    "layer_batch_noise": lambda m, loss: probes.layer_batch_noise(m, [loss, loss], ["1"]),
    "loss_plane": lambda m, loss: probes.loss_plane(m, loss, points=3),
}


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_leaves_the_model_as_it_was(name: str) -> None:
    model, loss = noisy_network()
    before = state(model)
    PROBES[name](model, loss)
    assert unchanged(model, before)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_that_fails_leaves_the_model_as_it_was(name: str) -> None:
    model, loss = noisy_network()
    before = state(model)
    calls = []

    def fails_later() -> Tensor:
        calls.append(loss())
        if name not in ("along_gradient", "covariate_shift", "layer_batch_noise", "loss_plane"):
            raise RuntimeError("broken")
        if len(calls) == 2:
            raise RuntimeError("broken")
        return calls[-1]

    with pytest.raises(RuntimeError, match="broken"):
        PROBES[name](model, fails_later)
    assert unchanged(model, before)


def test_a_graph_made_before_a_probe_can_still_be_differentiated() -> None:
    found = []
    for measured in (False, True):
        torch.manual_seed(0)
        model, loss = noisy_network()
        value = loss()
        if measured:
            probes.along_gradient(model, loss)
        found.append(torch.autograd.grad(value, list(model.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_probe_needs_no_gradient_mode() -> None:
    model = Quadratic(symmetric([1, 2, 3, 4, 5, 6]), draw(6))
    with torch.no_grad():
        assert probes.largest_eigenvalue(model, model).value == pytest.approx(6, rel=1e-3)
        assert probes.gradient_norms(model, model)[""] > 0


def test_every_evaluation_sees_the_same_random_numbers_and_averages() -> None:
    model, loss = noisy_network()
    with objective(model, loss) as at:
        first, gradient = at.gradient()
        at.gradient(gradient)
        again, same = at.gradient()
    assert first == again
    assert torch.equal(gradient, same)


def test_a_buffer_that_was_assigned_anew_comes_back() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))
            self.register_buffer("seen", torch.zeros(2))

        def forward(self) -> Tensor:
            self.seen = self.seen + 1
            return (self.weight * self.seen).sum()

    model = Counts()
    kept = model.seen
    found = probes.along_gradient(model, model)
    assert model.seen is kept
    assert torch.equal(kept, torch.zeros(2))
    assert found.loss == 2  # seen was 0 before every evaluation


def test_parameters_without_gradient_are_no_coordinates() -> None:
    model = Quadratic(symmetric([1, 2, 3, 4, 5, 6]), draw(6))
    model.second.requires_grad_(False)
    assert list(probes.gradient_norms(model, model, by="parameter")) == ["first"]
    with objective(model, model) as at:
        assert at.gradient()[1].shape == (4,)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda model: torch.ones(3), "expected one number"),
        (lambda model: 1.0, "returned float"),
        (lambda model: torch.ones(()), "does not depend"),
    ],
)
def test_a_loss_that_is_none_is_refused(loss: Callable[[nn.Module], Tensor], words: str) -> None:
    model, _ = noisy_network()
    with pytest.raises(ValueError, match=words):
        probes.gradient_norms(model, lambda: loss(model))


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter"):
        probes.gradient_norms(nn.ReLU(), lambda: torch.ones(()))


def test_layers_are_the_modules_with_parameters_of_their_own() -> None:
    model, _ = noisy_network()
    assert probes.layers_of(model) == {
        "0": ("0.weight", "0.bias"),
        "1.module": ("1.module.weight", "1.module.bias"),
        "3": ("3.weight", "3.bias"),
        "4": ("4.weight", "4.bias", "4.mean_scale"),
        "6": ("6.weight", "6.bias"),
        "7": ("7.weight", "7.bias"),
    }
