"""The kernels against the reference over shapes, orders, dtypes, strides and domains at random."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import graphnorms as gn
from graphnorms.kernels.backend import refusals
from graphnorms.kernels.cpu import extension
from graphnorms.kernels.point import ACTIVATIONS
from graphnorms.segments import Segments
from graphnorms.testing import tolerance

pytestmark = pytest.mark.skipif(extension.unavailable() is not None, reason="no kernels to compare")

DOMAINS = st.sampled_from([None, gn.Over.NODES, gn.Over.CHANNELS, gn.Over.BOTH])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16])


@st.composite
def features(draw: st.DrawFn, dtype: torch.dtype) -> tuple[Tensor, Segments, int]:
    """Features of any stride, the segments of their rows, and a number of groups."""
    groups = draw(st.integers(1, 4))
    channels = groups * draw(st.integers(1, 40))
    counts = draw(st.lists(st.integers(0, 40) | st.just(0) | st.just(700), max_size=6))
    rows = sum(counts)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts).long())
    if draw(st.booleans()):
        batch = batch[torch.randperm(rows, generator=generator)]
    layout = draw(st.sampled_from(["plain", "columns", "rows", "transposed", "reversed"]))
    wide = torch.randn(2 * rows + 1, 2 * channels + 1, generator=generator)
    wide = wide * draw(st.sampled_from([1.0, 1e-3, 30.0])) + draw(st.sampled_from([0.0, 100.0]))
    wide = wide.to(dtype)
    x = {
        "plain": lambda: wide[:rows, :channels].contiguous(),
        "columns": lambda: wide[:rows, 1 : channels + 1],
        "rows": lambda: wide[1 : 2 * rows + 1 : 2, :channels],
        "transposed": lambda: wide[:rows, :channels].t().contiguous().t(),
        "reversed": lambda: wide[:rows, : 2 * channels : 2],
    }[layout]()
    return x, Segments.from_batch(batch, len(counts)), groups


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data(), dtype=DTYPES, center=DOMAINS, scale=DOMAINS)
def test_kernels_agree_with_the_reference(
    data: st.DataObject, dtype: torch.dtype, center: gn.Over | None, scale: gn.Over | None
) -> None:
    x, segments, groups = data.draw(features(dtype))
    shared = center is not None and data.draw(st.booleans())
    activation = data.draw(st.sampled_from(ACTIVATIONS))
    if refusals("cpu", "cpu", dtype, center, scale, shared, False):
        return
    wide = torch.promote_types(dtype, torch.float32)
    generator = torch.Generator().manual_seed(1)
    parameters = [torch.rand(x.shape[1], generator=generator).to(wide) + 0.5 for _ in range(3)]
    names = ["weight", "bias", "mean_scale"] if shared else ["weight", "bias"]
    grad_y = torch.randn(x.shape, generator=generator).to(dtype)

    results: list[list[Tensor]] = []
    for backend in ("cpu", "reference"):
        leaf = x.detach().requires_grad_()
        leaves = [p.clone().requires_grad_() for p in parameters[: len(names)]]
        arguments: dict[str, Any] = dict(zip(names, leaves, strict=True))
        y = gn.segment_normalize(
            leaf,
            segments,
            center=center,
            scale=scale,
            groups=groups,
            activation=activation,
            backend=backend,
            **arguments,
        )
        y.backward(grad_y)
        assert leaf.grad is not None
        results.append([y.detach(), leaf.grad, *(p.grad for p in leaves if p.grad is not None)])
    # Both round, so each may be off by the tolerance. Gradients relate to weight / sqrt(eps), the
    # largest factor there is; with a kink, rounding may decide on another side of it.
    allowed = 2 * tolerance(dtype, x.numel())
    (y, grad, *grads), (other_y, other_grad, *other_grads) = results
    assert len(grads) == len(other_grads) == len(names)
    assert all(torch.isfinite(g).all() for g in grads)
    assert y.dtype == grad.dtype == dtype
    if x.numel():
        assert (y.double() - other_y.double()).abs().max() <= allowed * max(1.0, largest(other_y))
        if activation is None:
            size = max(largest(other_grad), largest(grad_y) * 1.5 / 1e-5**0.5)
            assert (grad.double() - other_grad.double()).abs().max() <= allowed * size


def largest(values: Tensor) -> float:
    return float(values.double().abs().max())
