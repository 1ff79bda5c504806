"""Widths and lengths with loops of their own: the C++ kernels against the reference in float64."""

from __future__ import annotations

import pytest
import torch

import graphnorms as gn
from graphnorms.kernels.cpu import extension
from graphnorms.segments import Segments
from graphnorms.testing import tolerance

needs_kernels = pytest.mark.skipif(extension.unavailable() is not None, reason="no kernels")
COUNTS = [1, 3, 0, 40, 128, 129]  # 128 rows are the most that are done in registers


@needs_kernels
@pytest.mark.parametrize("width", [10, 16, 24, 64])  # a part of a vector, one, several strips, one
@pytest.mark.parametrize(
    ("center", "scale"),
    [
        (gn.Over.BOTH, gn.Over.BOTH),
        (gn.Over.NODES, gn.Over.BOTH),
        (None, gn.Over.BOTH),
        (gn.Over.BOTH, None),
        (gn.Over.CHANNELS, gn.Over.CHANNELS),
        (None, gn.Over.CHANNELS),
    ],
)
@pytest.mark.parametrize("activation", [None, "silu"])
def test_every_width_is_the_reference(
    activation: str | None, center: gn.Over | None, scale: gn.Over | None, width: int
) -> None:
    generator = torch.Generator().manual_seed(width)
    rows = sum(COUNTS)
    x = torch.randn(rows, width, generator=generator) + 100
    weight, bias = torch.rand(2, width, generator=generator) + 0.5
    residual, cotangent = torch.randn(2, rows, width, generator=generator)
    segments = Segments.from_counts(torch.tensor(COUNTS))
    found = []
    for dtype, backend in ((torch.float32, "cpu"), (torch.float64, "reference")):
        leaves = [t.to(dtype).requires_grad_() for t in (x, weight, bias)]
        y = gn.segment_normalize(
            leaves[0],
            segments,
            center=center,
            scale=scale,
            weight=leaves[1],
            bias=leaves[2],
            activation=activation,
            residual=residual.to(dtype),
            backend=backend,
        )
        found.append([y.detach(), *torch.autograd.grad(y, leaves, cotangent.to(dtype))])
    allowed = tolerance(torch.float32, max(COUNTS) * width)
    for name, result, expected in zip(("y", "x", "weight", "bias"), *found, strict=True):
        error = (result - expected).abs().max() / expected.abs().max()
        assert error <= allowed, (name, float(error), allowed)
