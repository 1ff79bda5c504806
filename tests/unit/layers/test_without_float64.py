"""On a device that has no float64, as Apple's `mps`, for which the CPU stands here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import graphnorms as gn
from graphnorms.kernels import point
from graphnorms.layers.factory import names
from tests.norms import build_norm, inputs_of, normal


class NoFloat64(TorchDispatchMode):
    """Raises where an operation makes a float64 tensor with a dimension, as `mps` does."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in tree_iter(result):
            if isinstance(made, Tensor) and made.dtype == torch.float64 and made.dim():
                raise TypeError(f"this device does not support float64: {func}")
        return result


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Callable[[], NoFloat64]:
    monkeypatch.setattr(point, "WITHOUT_FLOAT64", ("cpu",))
    return NoFloat64


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", names())
def test_layers_make_none(name: str, training: bool, lacking: Callable[[], NoFloat64]) -> None:
    layer = build_norm(name, 8).train(training)
    x = normal(6, 8).float().requires_grad_()
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    given, choices = inputs_of(name, x, gn.Segments.from_batch(batch, 2), 2)
    with lacking():
        y = layer(*given[:2], **choices)
        y.sum().backward()
    assert x.grad is not None
    assert y.dtype == torch.float32


@pytest.mark.parametrize("training", [True, False])
def test_diff_group_norm(training: bool, lacking: Callable[[], NoFloat64]) -> None:
    """It loses the digits of a mean that favours no group, and no others."""
    layer = gn.DiffGroupNorm(6, 3, lamda=0.5, momentum=None)
    x = normal(40, 6).float() + 2
    z = x.double() @ layer.lin.weight.double().t()
    parts = (z.softmax(1).unsqueeze(2) * x.double().unsqueeze(1)).detach()
    unbiased = training or 39 / 40  # eval() goes by the unbiased variance
    scale = (parts.var(0, unbiased=False) / unbiased + 1e-5).sqrt()
    expected = x + 0.5 * ((parts - parts.mean(0)) / scale).sum(1)
    layer(x)
    layer.train(training)
    with lacking():
        got = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            within = layer(x)
    for y in (got, within):
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_mps() -> None:
    assert point.widest_float(torch.device("mps")) == torch.float32
    assert point.widest_float(torch.device("cuda")) == torch.float64
    assert point.in_float64(torch.ones(2)).dtype == torch.float64
