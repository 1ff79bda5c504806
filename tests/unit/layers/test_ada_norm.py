"""AdaNorm against its formula, the gain constant for the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphnorms.layers.ada_norm import AdaNorm
from tests.unit.layers.battery import NormBattery, normal, standardize


class TestAdaNorm(NormBattery):
    def make(self, channels: int, **arguments: Any) -> nn.Module:
        return AdaNorm(channels, scale=1.5, k=0.2, **arguments)

    def oracle(
        self, x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], inputs: dict[str, Any]
    ) -> Tensor:
        y = standardize(x, (1,))
        return 1.5 * (1 - 0.2 * y.detach()) * y

    def test_gradcheck_and_gradgradcheck(self) -> None:
        """Of the layer with its gain kept where it is: that is the map it differentiates."""
        x = normal(5, 4, seed=0).requires_grad_()
        layer = self.make(4)
        gain = 1.5 * (1 - 0.2 * standardize(x.detach(), (1,)))

        def fixed(x: Tensor) -> Tensor:
            return gain * standardize(x, (1,))

        grad_y = normal(5, 4, seed=1).requires_grad_()
        (mine,) = torch.autograd.grad(layer(x), x, grad_y, create_graph=True)
        (want,) = torch.autograd.grad(fixed(x), x, grad_y, create_graph=True)
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
