from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.probes import batch_norm_gradient
from tests.unit.probes.common import draw

ROWS, CHANNELS = 23, 5


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Channels of very different mean and scale, a cotangent, γ away from 1."""
    size = torch.tensor([1.0, 1e-3, 50.0, 2.0, 0.3], dtype=torch.float64)
    x = 7 + size * draw(ROWS, CHANNELS)
    return x.requires_grad_(), draw(ROWS, CHANNELS, seed=1) + 0.5, draw(CHANNELS, seed=2)


def by_autograd(y: Tensor, x: Tensor, cotangent: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(y, x, cotangent)
    return gradient.square().sum(0)


def relative(found: Tensor, expected: Tensor) -> float:
    return float(((found - expected) / expected).abs().max())


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_theorem_4_1_is_an_identity(backend: str) -> None:
    """At ε = 0, the norm of the package's own equation."""
    x, cotangent, weight = inputs()
    y = gn.segment_normalize(
        x, gn.Segments.single(ROWS), center=gn.Over.NODES, scale=gn.Over.NODES,
        weight=weight, eps=0.0, backend=backend,
    )  # fmt: skip
    found = batch_norm_gradient(x, cotangent, weight=weight)
    assert relative(found.outgoing, by_autograd(y, x, cotangent)) < 1e-10
    # Written as in the theorem, from ŷ and the gradient of the network without the norm.
    centered = x.detach() - x.detach().mean(0)
    deviation = centered.square().mean(0).sqrt()
    standard = centered / deviation
    bound = (weight / deviation).square() * (
        cotangent.square().sum(0)
        - cotangent.sum(0).square() / ROWS
        - (cotangent * standard).sum(0).square() / ROWS
    )
    assert relative(found.outgoing, bound) < 1e-10


def test_theorem_4_1_in_a_network_with_the_layer() -> None:
    """The gradient that comes to BatchNorm is that of the rest of the network at its output."""
    torch.manual_seed(1)
    x, _, weight = inputs()
    norm = gn.BatchNorm(CHANNELS, eps=1e-30).double()
    rest = nn.Sequential(nn.Tanh(), nn.Linear(CHANNELS, 3)).double()
    with torch.no_grad():
        norm.module.weight.copy_(weight)
        norm.module.bias.copy_(draw(CHANNELS, seed=5))

    def loss(activations: Tensor) -> Tensor:
        return nn.functional.cross_entropy(rest(activations), torch.arange(ROWS) % 3)

    (with_norm,) = torch.autograd.grad(loss(norm(x)), x)
    activations = norm(x).detach().requires_grad_()
    (without,) = torch.autograd.grad(loss(activations), activations)
    found = batch_norm_gradient(x, without, weight=weight)
    assert relative(found.outgoing, with_norm.square().sum(0)) < 1e-10


@pytest.mark.parametrize("eps", [1e-5, 0.1, 10.0])
def test_the_identity_with_epsilon(eps: float) -> None:
    x, cotangent, weight = inputs()
    norm = gn.BatchNorm(CHANNELS, eps=eps).double()
    with torch.no_grad():
        norm.module.weight.copy_(weight)
    found = batch_norm_gradient(x, cotangent, weight=weight, eps=eps)
    expected = by_autograd(norm(x), x, cotangent)
    assert relative(found.outgoing, expected) < 1e-10
    # Without the term in ε it is not.
    sigma = x.detach().var(0, correction=0)
    plain = found.scale_part / (1 + eps / (sigma + eps))
    without = found.gain * (found.incoming - found.mean_part - plain)
    assert relative(without, expected) > 1e-6


def test_what_is_removed() -> None:
    x, _, _ = inputs()
    centered = x.detach() - x.detach().mean(0)
    ones = torch.ones(ROWS, CHANNELS).double()
    for gradient in (ones, centered, 3 * ones + 2 * centered):
        found = batch_norm_gradient(x, gradient)
        torch.testing.assert_close(found.removed, torch.ones(CHANNELS).double())
    cotangent = draw(ROWS, CHANNELS, seed=1)
    removed = batch_norm_gradient(x, cotangent).removed
    assert ((removed > 0) & (removed < 1)).all()


def test_errors() -> None:
    x = torch.ones(4, 2)
    with pytest.raises(ValueError, match="gradient is"):
        batch_norm_gradient(x, x[:2])
    with pytest.raises(ValueError, match="weight is"):
        batch_norm_gradient(x, x, weight=torch.ones(3))
    with pytest.raises(ValueError, match="eps is -1"):
        batch_norm_gradient(x, x, eps=-1)
