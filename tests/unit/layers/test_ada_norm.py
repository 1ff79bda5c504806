"""What AdaNorm keeps constant, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from graphnorms.layers.ada_norm import AdaNorm
from tests.conformance.oracle import standardize
from tests.norms import normal


def test_its_gain_is_a_constant_for_the_gradient() -> None:
    """The second derivative, too, is that of the layer with its gain kept where it is."""
    x = normal(5, 4).requires_grad_()
    layer = AdaNorm(4, scale=1.5, k=0.2)
    gain = 1.5 * (1 - 0.2 * standardize(x.detach(), (1,)))
    grad_y = normal(5, 4, seed=1).requires_grad_()
    (mine,) = torch.autograd.grad(layer(x), x, grad_y, create_graph=True)
    (want,) = torch.autograd.grad(gain * standardize(x, (1,)), x, grad_y, create_graph=True)
    torch.testing.assert_close(mine, want)
    second = normal(5, 4, seed=2)
    torch.testing.assert_close(
        torch.autograd.grad(mine, [x, grad_y], second),
        torch.autograd.grad(want, [x, grad_y], second),
    )


def test_the_mean_gain_is_the_scale() -> None:
    x = normal(5, 40, seed=0) * 7 + 100
    layer = AdaNorm(40, scale=2.0, k=0.1)
    standard = standardize(x, (1,))
    torch.testing.assert_close(
        (layer(x) / standard).mean(1), torch.full((5,), 2.0, dtype=torch.float64)
    )
    torch.testing.assert_close(layer(3 * x - 8), layer(x), rtol=1e-6, atol=1e-6)


def test_equal_channels_give_zero() -> None:
    assert not AdaNorm(4)(torch.full((3, 4), 0.7)).any()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"scale is 0\.0, expected a positive number"):
        AdaNorm(4, scale=0.0)
    with pytest.raises(ValueError, match=r"k is -1\.0, expected no negative number"):
        AdaNorm(4, k=-1.0)
    assert repr(AdaNorm(4)) == "AdaNorm(4, scale=1.0, k=0.1)"
