"""Features whose squares are beyond float32: the result is that of float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.segments import Segments

DOMAINS = [None, gn.Over.NODES, gn.Over.CHANNELS, gn.Over.BOTH]
SHORT = [10, 20, 200, 1, 0, 9]
LONG = [10, 5000, 7]


def features(rows: int, size: float) -> Tensor:
    """Large ones; a graph of ordinary size is first, and the next has such a channel."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 6, generator=generator) * size
    x[:10] /= size
    x[10:30, 2] /= size
    return x


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("counts", [SHORT, LONG], ids=["short", "long"])
@pytest.mark.parametrize("size", [1e17, 3e19, 1e25])  # 1 / s² leaves float32 at 1e19, and s² does
@pytest.mark.parametrize("scale", DOMAINS[1:])
@pytest.mark.parametrize("center", DOMAINS)
def test_every_point_of_the_equation(
    center: gn.Over | None, scale: gn.Over, size: float, counts: list[int], backend: str
) -> None:
    generator = torch.Generator().manual_seed(1)
    rows = sum(counts)
    x = features(rows, size)
    weight, bias = torch.rand(2, 6, generator=generator) + 0.5
    cotangent = torch.randn(rows, 6, generator=generator)
    segments = Segments.from_counts(torch.tensor(counts))
    found = []
    for dtype, asked in ((torch.float32, backend), (torch.float64, "reference")):
        leaves = [t.to(dtype).requires_grad_() for t in (x, weight, bias)]
        y = gn.segment_normalize(
            leaves[0],
            segments,
            center=center,
            scale=scale,
            groups=2,
            weight=leaves[1],
            bias=leaves[2],
            activation="silu",
            backend=asked,
        )
        grads = torch.autograd.grad(y, leaves, cotangent.to(dtype))
        # The gradient is as small as x is large: in the unit of each entry's own size.
        found.append([y.detach(), grads[0] * x.abs(), *grads[1:]])
    for name, result, expected in zip(("y", "x", "weight", "bias"), *found, strict=True):
        error = (result - expected).abs().max() / expected.abs().max()
        # What is wrong is off by percents; rows close to their graph's mean lose digits anyway.
        assert error < 1e-4, (name, float(error))
