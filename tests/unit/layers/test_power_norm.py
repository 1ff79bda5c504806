"""PowerNorm against the authors' algorithm, batch after batch."""

from __future__ import annotations

import pytest
import torch

from graphnorms.layers.power_norm import PowerNorm
from tests.norms import close, normal, randomize


@pytest.mark.parametrize("masked", [False, True])
def test_batch_after_batch(masked: bool) -> None:
    """The algorithm written out, over the warm-up and beyond it."""
    a, b, warmup, eps = 0.8, 0.7, 3, 1e-5
    layer = PowerNorm(4, forward_decay=a, backward_decay=b, warmup=warmup, dtype=torch.float64)
    randomize(layer)
    gamma, beta = layer.weight.detach(), layer.bias.detach()
    psi, accumulated = torch.ones(4).double(), torch.zeros(4).double()
    for number in range(1, 8):
        x, grad_y = normal(9, 4, seed=number) * number, normal(9, 4, seed=number + 50)
        mask = torch.arange(9) % 4 != 1 if masked else torch.ones(9, dtype=torch.bool)
        leaf = x.clone().requires_grad_()
        y = layer(leaf, mask=mask if masked else None)
        (grad_x,) = torch.autograd.grad(y, leaf, grad_y)

        rows, g = x[mask], grad_y[mask] * gamma
        moment = rows.square().mean(0)
        standard = rows / ((moment if number <= warmup else psi) + eps).sqrt()
        close(y[mask], standard * gamma + beta, 1e-12, "y")
        corrected = g - (1 - b) * accumulated * standard
        accumulated = accumulated + (corrected * standard).mean(0)
        close(grad_x[mask], corrected / (moment + eps).sqrt(), 1e-12, "gradient")
        if number < warmup:
            psi = psi * (number - 1) / number + moment / number
        psi = a * psi + (1 - a) * moment
        close(layer.running_moment, psi, 1e-12, "running moment")
        close(layer.running_gradient, (1 - b) * accumulated, 1e-12, "running gradient")
    assert int(layer.num_batches_tracked) == 7
    layer.eval()
    close(layer(x), x / (psi + eps).sqrt() * gamma + beta, 1e-12, "y in eval()")
    close(layer.running_moment, psi, 1e-12, "running moment")


def test_a_batch_without_nodes_changes_nothing() -> None:
    layer = PowerNorm(4)
    x = normal(5, 4, seed=0, dtype=torch.float32).requires_grad_()
    for given, mask in ((x[:0], None), (x, torch.zeros(5, dtype=torch.bool))):
        y = layer(given, mask=mask)
        y.sum().backward()
    assert layer.running_moment.tolist() == [1.0] * 4
    assert layer.running_gradient.tolist() == [0.0] * 4
    assert int(layer.num_batches_tracked) == 0


def test_second_derivative_takes_the_running_means_as_constants() -> None:
    layer = PowerNorm(4, warmup=0, dtype=torch.float64)
    layer.running_gradient.fill_(0.3)
    layer.running_moment.fill_(2.0)
    x, grad_y = normal(5, 4, seed=0).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
    (grad_x,) = torch.autograd.grad(layer(x), x, grad_y, create_graph=True)
    second = normal(5, 4, seed=2)
    own = (x.detach().square().mean(0) + 1e-5).rsqrt()
    got = torch.autograd.grad(grad_x, [x, grad_y], second)
    torch.testing.assert_close(got[0], -0.3 * second * own / (2 + 1e-5) ** 0.5)
    torch.testing.assert_close(got[1], second * own)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated:DeprecationWarning")
def test_transforms_take_it_in_evaluation() -> None:
    layer = PowerNorm(4, dtype=torch.float64)
    x = normal(5, 4, seed=0)
    with pytest.raises(ValueError, match=r"under a torch\.func transform"):
        torch.func.grad(lambda x: layer(x).sum())(x)
    with pytest.raises(ValueError, match=r"call eval\(\) first"):
        torch.func.jvp(layer, (x,), (x,))
    layer.eval()
    torch.testing.assert_close(
        torch.func.grad(lambda x: layer(x).sum())(x), torch.full_like(x, (1 + 1e-5) ** -0.5)
    )


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"forward_decay is 2\.0, expected a number from 0 to 1"):
        PowerNorm(4, forward_decay=2.0)
    with pytest.raises(ValueError, match=r"backward_decay is -1\.0"):
        PowerNorm(4, backward_decay=-1.0)
    with pytest.raises(ValueError, match="warmup is -1, expected no negative number of batches"):
        PowerNorm(4, warmup=-1)
    with pytest.raises(ValueError, match="scale_groups is 3, expected a divisor of the 4 channels"):
        PowerNorm(4, scale_groups=3)
    assert repr(PowerNorm(4, warmup=2)) == (
        "PowerNorm(4, eps=1e-05, forward_decay=0.9, backward_decay=0.9, warmup=2)"
    )
