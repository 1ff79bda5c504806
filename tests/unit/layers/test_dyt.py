"""DyT and Derf beside their authors' formulas: states, ends, and digits near 0."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphnorms.kernels.primitive import segment_normalize
from graphnorms.layers.custom_norm import CustomNorm
from graphnorms.layers.derf import Derf
from graphnorms.layers.dyt import DyT
from graphnorms.segments import Segments
from graphnorms.testing import check_norm
from tests.norms import normal, randomize


class Published(nn.Module):
    """The formula over the state that the authors' modules have."""

    def __init__(self, shapes: dict[str, int], function: Any) -> None:
        super().__init__()
        for name, size in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.rand(size) + 0.5))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        shift = getattr(self, "shift", 0.0)
        y = self.function(self.alpha * x + shift)
        return y * self.weight + self.bias if hasattr(self, "weight") else y


LAYERS: dict[str, tuple[Any, dict[str, int], Any]] = {
    "DyT": (DyT, {"alpha": 1, "weight": 5, "bias": 5}, torch.tanh),
    "Derf": (Derf, {"alpha": 1, "weight": 5, "bias": 5, "shift": 1}, torch.erf),
    "Derf plain": (lambda c: Derf(c, affine=False), {"alpha": 1, "shift": 1}, torch.erf),
}


@pytest.mark.parametrize("name", LAYERS)
def test_checkpoints_of_the_authors_load_both_ways(name: str) -> None:
    make, shapes, function = LAYERS[name]
    mine, theirs = make(5), Published(shapes, function)
    mine.load_state_dict(theirs.state_dict())
    x = normal(7, 5, dtype=torch.float32).requires_grad_()
    y, expected = mine(x), theirs(x)
    torch.testing.assert_close(y, expected)
    names = [each for each, _ in theirs.named_parameters()]
    found, wanted = (
        torch.autograd.grad(
            result, [x, *(layer.get_parameter(each) for each in names)], torch.cos(expected)
        )
        for result, layer in ((y, mine), (expected, theirs))
    )
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want)
    theirs.load_state_dict(mine.state_dict())


def test_where_they_begin() -> None:
    layer = Derf(3, alpha=0.8, shift=-0.1)
    state = {"alpha": [0.8], "shift": [-0.1], "weight": [1.0] * 3, "bias": [0.0] * 3}
    randomize(layer)
    layer.reset_parameters()
    for name, values in state.items():
        torch.testing.assert_close(layer.get_parameter(name).detach(), torch.tensor(values))
    assert DyT(3).alpha.tolist() == [0.5]
    assert DyT(3).shift is None
    assert repr(DyT(3, 0.25)) == "DyT(3, alpha=0.25, affine=True)"
    assert repr(Derf(3)) == "Derf(3, alpha=0.5, shift=0.0, affine=True)"


FUNCTIONS = {"tanh": math.tanh, "erf": math.erf}


@pytest.mark.parametrize(("dtype", "ulps"), [(torch.float32, 4), (torch.float64, 8)], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_digits_from_0_to_the_ends(name: str, dtype: torch.dtype, ulps: int, backend: str) -> None:
    """In units of the last digit of the result, against the C library."""
    sizes = torch.logspace(-30, 3, 661, dtype=torch.float64)
    grid = torch.cat([sizes, torch.linspace(0, 7, 701, dtype=torch.float64)]).to(dtype)
    x = torch.cat([grid, -grid, torch.tensor([torch.inf, -torch.inf])]).to(dtype).unsqueeze(1)
    y = segment_normalize(
        x, Segments.single(len(x)), center=None, scale=None, function=name, backend=backend
    )
    exact = torch.tensor(
        [[FUNCTIONS[name](v)] for v in x[:, 0].double().tolist()], dtype=torch.float64
    )
    error = (y.double() - exact).abs() / exact.abs().clamp(min=1e-300)
    assert float(error[exact != 0].max()) <= ulps * torch.finfo(dtype).eps
    assert not y[exact == 0].any()
    assert float(y.abs().max()) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_keep_their_digits_where_the_function_is_flat(name: str, backend: str) -> None:
    """1 - tanh² has none left at 9 in float32."""
    x = torch.tensor([[-6.0], [-3.0], [0.0], [1e-4], [2.0], [9.0]], requires_grad=True)
    y = segment_normalize(
        x, Segments.single(6), center=None, scale=None, function=name, backend=backend
    )
    (slope,) = torch.autograd.grad(y.sum(), x)
    v = x.detach().double()
    exact = v.cosh() ** -2 if name == "tanh" else 2 / math.sqrt(math.pi) * torch.exp(-v * v)
    # The reference is differentiated by autograd, which takes 1 - tanh².
    atol = 1e-7 if backend == "reference" else 0
    torch.testing.assert_close(slope.double(), exact, rtol=2e-5, atol=atol)


@pytest.mark.parametrize("make", [DyT, Derf], ids=["DyT", "Derf"])
def test_the_battery(make: Any) -> None:
    check_norm(lambda channels: make(channels))


def test_the_first_entries_of_a_layer_of_positions() -> None:
    layer = Derf(4)
    randomize(layer)
    x = normal(5, 3, 4, dtype=torch.float32)
    torch.testing.assert_close(layer(x), layer(x.flatten(0, 1)).view(5, 3, 4))


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_custom_norm_puts_a_function_behind_any_centre(name: str) -> None:
    batch = torch.tensor([0, 0, 1, 1, 1])
    x = normal(5, 4)
    alone = CustomNorm(4, "none", name, dtype=torch.float64)
    randomize(alone)
    function = torch.tanh if name == "tanh" else torch.erf
    expected = alone.weight * function(alone.alpha * x) + alone.bias
    torch.testing.assert_close(alone(x, batch), expected)
    centred = CustomNorm(4, "graph", name, shift="learned", dtype=torch.float64)
    randomize(centred)
    means = torch.stack([x[:2].mean(0), x[2:].mean(0)])[batch]
    o = x - centred.mean_scale * means
    expected = centred.weight * function(centred.alpha * o) + centred.bias
    torch.testing.assert_close(centred(x, batch), expected)
    centred.reset_parameters()
    assert centred.alpha.tolist() == [0.5]
    assert "alpha" not in CustomNorm(4).state_dict()


def test_refusals() -> None:
    for alpha in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"alpha is {alpha}, expected a finite number"):
            DyT(4, alpha)
    with pytest.raises(ValueError, match="shift is inf, expected a finite number"):
        Derf(4, shift=math.inf)
    with pytest.raises(ValueError, match="unknown center 'tanh'"):
        CustomNorm(4, "tanh", "node")
    x, one = torch.zeros(3, 4), Segments.single(3)
    for given, message in (
        ({"function": "sin"}, "unknown function 'sin'"),
        ({"function": "tanh", "mean_scale": torch.ones(4)}, r"mean_scale is \(4,\), expected the"),
    ):
        with pytest.raises(ValueError, match=message):
            segment_normalize(x, one, center=None, scale=None, **given)
    with pytest.raises(ValueError, match="function is 'erf', which takes the place of center"):
        segment_normalize(x, one, center=None, scale=2, function="erf")
