"""The linear map against the product in float64, in every instruction set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

from graphnorms.kernels import linear_map
from graphnorms.kernels.cpu import extension
from graphnorms.models import Linear
from tests.conftest import HAVE_KERNELS, INSTRUCTION_SETS

pytestmark = pytest.mark.skipif(not HAVE_KERNELS, reason="the C++ kernels are not installed")

EPS = torch.finfo(torch.float32).eps
SIZES = [(0, 3, 4), (1, 1, 1), (5, 7, 6), (257, 64, 31), (600, 33, 130)]
"""Rows, columns of x and of y: tiles and strips that are whole, cut, and more than one chunk."""


@pytest.fixture(params=INSTRUCTION_SETS)
def used(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    kernels = extension.kernels()
    before = kernels.instruction_set()
    kernels.use_instruction_set(request.param)
    monkeypatch.setattr(extension, "_FASTER_PRODUCTS", tuple(INSTRUCTION_SETS))
    yield request.param
    kernels.use_instruction_set(before)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_results_and_gradients(
    size: tuple[int, int, int], has_bias: bool, used: str, threads: None
) -> None:
    """Within the rounding of a sum of as many summands; the same bits for two threads."""
    rows, width, out = size
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, width + 3, generator=generator)[:, :width].requires_grad_()
    weight = torch.randn(out, width, generator=generator, requires_grad=True)
    bias = torch.randn(out, generator=generator, requires_grad=True) if has_bias else None
    grad = torch.randn(rows, out, generator=generator)
    given = [x, weight, *([] if bias is None else [bias])]
    found = []
    for number in (1, 2):
        torch.set_num_threads(number)
        y = linear_map.linear(x, weight, bias)
        assert "_Linear" in type(y.grad_fn).__name__
        found.append([y, *torch.autograd.grad(y, given, grad)])
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)
    wide = [each.detach().double().requires_grad_() for each in given]
    y = F.linear(*wide)
    exact = [y, *torch.autograd.grad(y, wide, grad.double())]
    absolute = [each.detach().double().abs() for each in (grad, x, weight)]
    sizes = [
        F.linear(absolute[1], absolute[2]) + (0 if bias is None else bias.detach().abs()),
        absolute[0] @ absolute[2],
        absolute[0].T @ absolute[1],
        absolute[0].sum(0),
    ]
    steps = [width + 1, out, rows, rows]
    for one, truth, size_of, count in zip(found[0], exact, sizes, steps, strict=False):
        assert bool(((one - truth).abs() <= (count + 2) * EPS * size_of).all())


def test_nothing_leaks_between_rows_and_columns(used: str) -> None:
    """NaN stays in its row forward, and in its column of the gradient of the weight."""
    x = torch.ones(300, 70, requires_grad=True)
    weight = torch.ones(65, 70, requires_grad=True)
    with torch.no_grad():
        x[299, 69] = torch.nan
    y = linear_map.linear(x, weight)
    assert y.isnan().any(1).nonzero().flatten().tolist() == [299]
    y.sum().backward()
    assert weight.grad is not None
    assert weight.grad.isnan().any(0).nonzero().flatten().tolist() == [69]


def test_strange_gradients_and_second_derivatives(used: str) -> None:
    """A gradient without memory of its own is copied; a penalty on a gradient is torch's."""
    torch.manual_seed(0)
    mine = Linear(8, 5)
    theirs = torch.nn.Linear(8, 5)
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(20, 8, requires_grad=True)
    results = []
    for module in (mine, theirs):
        y = module(x)
        (first,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
        (again,) = torch.autograd.grad(y.tanh().sum(), x, create_graph=True)
        penalty = torch.autograd.grad(again.square().sum(), [x, module.weight])
        results.append([y, first, again, *penalty])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)


def test_other_calls_are_torchs(used: str) -> None:
    """Other dtypes, more dimensions, autocast, `torch.func` and tracing."""
    torch.manual_seed(0)
    layer = Linear(6, 4)
    x = torch.randn(3, 5, 6)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))
    wide = Linear(6, 4, dtype=torch.float64)
    assert wide(x[0].double()).dtype == torch.float64
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x[0]).dtype == torch.bfloat16
    traced = torch.fx.experimental.proxy_tensor.make_fx(layer)(x[0])
    assert any("mm" in str(node.target) for node in traced.graph.nodes)
    each = torch.func.vmap(layer)(x)
    torch.testing.assert_close(each, layer(x))
    apart = torch.randn(4, 2)[:, 0]  # a bias with gaps
    wanted = F.linear(x[0], layer.weight) + apart
    torch.testing.assert_close(linear_map.linear(x[0], layer.weight, apart), wanted)
    assert linear_map.linear(x[0], layer.weight[0]).shape == (5,)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        layer(x[0, :, :5])
    with pytest.raises(RuntimeError, match="size"):
        linear_map.linear(x[0], layer.weight, torch.ones(3))
