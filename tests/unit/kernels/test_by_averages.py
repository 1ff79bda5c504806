"""BatchNorm by running averages in one pass, against the formula in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import graphnorms as gn
from graphnorms.kernels.cpu import normalize
from graphnorms.kernels.point import NO_STATISTICS, Averages, Call
from graphnorms.segments import Segments
from tests.norms import normal

pytestmark = pytest.mark.skipif(not gn.backends()[0].available, reason="the pass is a C++ kernel")

ACTIVATIONS = {
    None: lambda x: x,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
}


@pytest.mark.parametrize("channels", [1, 7, 16, 33, 64])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_one_pass_is_the_formula(dtype: torch.dtype, activation: str | None, channels: int) -> None:
    """Also where the rows of x lie apart."""
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    x = normal(50, 2 * channels, seed=1).to(dtype)[:, :channels]
    residual = normal(50, channels, seed=2).to(dtype)
    mean, weight, bias = (normal(channels, seed=seed).to(wide) for seed in (3, 4, 5))
    var = normal(channels, seed=6).to(wide).square()
    call = Call(Segments(torch.tensor([0, 50]), None, 50), NO_STATISTICS, 1e-3, activation)
    y = normalize.normalize_by_averages(
        x, residual, (None, weight, bias), call, Averages(mean, var)
    )
    pre = F.batch_norm(*(each.double() for each in (x, mean, var, weight, bias)), eps=1e-3)
    expected = ACTIVATIONS[activation](pre) + residual.double()
    unit = torch.finfo(dtype).eps
    assert y.dtype is dtype
    torch.testing.assert_close(y.double(), expected, rtol=4 * unit, atol=16 * unit)


def test_a_large_mean_costs_no_precision() -> None:
    """Where γx/σ + (β - γμ/σ) would lose four digits."""
    norm = gn.BatchNorm(4).eval()
    norm.module.running_mean.fill_(1e4)
    x = 1e4 + normal(30, 4).float().round(decimals=1)
    expected = (x.double() - 1e4) / (1 + norm.eps) ** 0.5
    with torch.no_grad():
        torch.testing.assert_close(norm(x).double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [gn.BatchNorm, gn.InstanceNorm])
def test_with_and_without_gradients_eval_is_the_same(kind: type[torch.nn.Module]) -> None:
    norm = kind(20, track_running_stats=True, activation="gelu", dropout=0.5)
    x = normal(40, 20).float()
    norm(3 * x + 1)
    norm.eval()
    learned = norm(x)
    assert learned.requires_grad == (kind is gn.BatchNorm)  # which has parameters
    with torch.no_grad():
        torch.testing.assert_close(norm(x), learned.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": torch.zeros(3)},
        {"var": torch.ones(4, dtype=torch.float64)},
        {"var": torch.ones(4, 2)[:, 0]},
        {"call": Call(Segments(torch.tensor([0, 3, 6]), None, 6), NO_STATISTICS)},
        {"call": Call(Segments(torch.tensor([0, 5]), torch.arange(6), 6), NO_STATISTICS)},
        {"call": Call(Segments(torch.tensor([0, 6]), None, 6), gn.BatchNorm.point)},
    ],
    ids=["size", "dtype", "stride", "two segments", "masked", "statistics"],
)
def test_what_does_not_fit_is_refused(change: dict[str, object]) -> None:
    call = Call(Segments(torch.tensor([0, 6]), None, 6), NO_STATISTICS)
    given: dict[str, object] = {"call": call, "mean": torch.zeros(4), "var": torch.ones(4)}
    given |= change
    averages = Averages(given["mean"], given["var"])
    with pytest.raises((ValueError, TypeError)):
        normalize.normalize_by_averages(
            torch.ones(6, 4), None, (None, None, None), given["call"], averages
        )
