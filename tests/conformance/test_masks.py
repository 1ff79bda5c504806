"""Masked rows: they neither count nor change, whatever they hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.segments import Segments, as_segments
from tests.conformance.oracle import LAYERS
from tests.norms import randomize

ALL = {**LAYERS, "Identity": (lambda c, backend, **k: gn.Identity(c, **k), None)}


def case(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, graphs (one without a row that counts), mask and a cotangent."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([5, 300, 0, 7, 40])
    batch = torch.repeat_interleave(torch.arange(5), counts)
    mask = torch.rand(batch.shape[0], generator=generator) < 0.6
    mask[batch == 3] = False
    x = torch.randn(batch.shape[0], 21, generator=generator, dtype=torch.float64).to(dtype)
    return x, batch, mask, torch.randn(x.shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize("name", ALL)
def test_as_if_the_rows_were_not_there(
    name: str, order: str, dtype: torch.dtype, backend: str
) -> None:
    x, batch, mask, grad_y = case(dtype)
    if order == "unsorted":
        shuffle = torch.randperm(x.shape[0], generator=torch.Generator().manual_seed(1))
        batch, mask = batch[shuffle], mask[shuffle]
    wide = torch.promote_types(dtype, torch.float32)
    layer = ALL[name][0](21, activation="silu", backend=backend, dtype=wide)
    randomize(layer, torch.Generator().manual_seed(2))
    residual = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).to(dtype)

    results: list[list[Tensor]] = []
    for masked in (True, False):
        layer.zero_grad()
        leaf = x.clone()
        if masked:
            leaf[~mask] = float("nan")  # what padding may hold
        leaf.requires_grad_()
        if masked:
            y = layer(leaf, batch, 5, residual=residual, mask=mask)
            y.backward(grad_y)
        else:
            y = layer(leaf[mask], batch[mask], 5, residual=residual[mask])
            y.backward(grad_y[mask])
        assert leaf.grad is not None
        grads = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
        buffers = [b.clone() for b in layer.buffers()]
        if masked:
            assert torch.equal(leaf.grad[~mask], grad_y[~mask])
            assert torch.isnan(y[~mask]).all()
            leaf.grad[~mask] = 0
            y = y[mask]
            layer.reset_parameters() if hasattr(layer, "reset_running_stats") else None
            randomize(layer, torch.Generator().manual_seed(2))
        results.append([y.detach(), leaf.grad, *grads, *buffers])
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2}[dtype]
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ALL)
def test_masked_rows_come_out_as_they_are_and_the_residual_added(name: str, backend: str) -> None:
    x, batch, mask, _ = case(torch.float32)
    layer = ALL[name][0](21, activation="relu", dropout=0.5, backend=backend)
    y = layer(x, batch, 5, mask=mask)
    assert torch.equal(y[~mask], x[~mask])
    y = layer(x, batch, 5, residual=2 * x, mask=mask)
    assert torch.equal(y[~mask], 3 * x[~mask])


@pytest.mark.parametrize("name", ALL)
def test_all_and_none(name: str, backend: str) -> None:
    x, batch, _, _ = case(torch.float32)
    layer = ALL[name][0](21, backend=backend)
    everything = torch.ones(x.shape[0], dtype=torch.bool)
    torch.testing.assert_close(layer(x, batch, 5, mask=everything), layer(x, batch, 5))
    before = [buffer.clone() for buffer in layer.buffers()]
    assert torch.equal(layer(x, batch, 5, mask=~everything), x)
    assert all(map(torch.equal, layer.buffers(), before))


@pytest.mark.parametrize("name", ["BatchNorm", "InstanceNorm-tracked"])
def test_evaluation_by_running_statistics(name: str) -> None:
    tracked: dict[str, Any] = {} if name == "BatchNorm" else {"track_running_stats": True}
    layer = (gn.BatchNorm if name == "BatchNorm" else gn.InstanceNorm)(21, **tracked)
    x, batch, mask, _ = case(torch.float32)
    layer(x, batch, 5, mask=mask)
    layer.eval()
    y = layer(x, batch, 5, mask=mask)
    assert torch.equal(y[~mask], x[~mask])
    assert torch.equal(y[mask], layer(x[mask], batch[mask], 5))


@pytest.mark.parametrize("name", ALL)
def test_gradcheck_and_gradgradcheck(name: str, backend: str) -> None:
    layer = ALL[name][0](3, backend=backend, activation="silu", dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    randomize(layer, generator)
    batch = torch.tensor([1, 0, 1, 1, 0, 3, 1])
    mask = torch.tensor([True, True, False, True, True, False, True])
    x = torch.randn(7, 3, generator=generator, dtype=torch.float64).requires_grad_()
    residual = torch.randn(7, 3, generator=generator, dtype=torch.float64).requires_grad_()

    def call(x: Tensor, residual: Tensor) -> Tensor:
        y: Tensor = layer(x, batch, 5, residual=residual, mask=mask)
        return y

    assert torch.autograd.gradcheck(call, (x, residual))
    assert torch.autograd.gradgradcheck(call, (x, residual))


def test_segments_with_a_mask() -> None:
    batch = torch.tensor([2, 0, 2, 1, 0])
    mask = torch.tensor([True, True, False, True, False])
    segments = Segments.from_batch(batch, 4).with_mask(mask)
    assert segments.ptr.tolist() == [0, 1, 2, 3, 3]
    assert segments.counts.tolist() == [1, 1, 1, 0]
    assert segments.order is not None
    assert segments.order.tolist() == [1, 3, 0, 2, 4]
    assert segments.index.tolist() == [2, 0, 4, 1, 4]
    twin = Segments(segments.ptr, segments.order, 5, masked=True)
    assert twin.index.tolist() == segments.index.tolist()
    assert repr(segments) == "Segments(4 segments, 5 rows, masked)"


def test_the_last_mask_is_remembered_until_it_is_written_to() -> None:
    x, batch, mask, _ = case(torch.float32)
    first = as_segments(batch, rows_of=x, num_segments=5, mask=mask)
    assert as_segments(batch, rows_of=x, num_segments=5, mask=mask) is first
    assert as_segments(None, rows_of=x, mask=mask) is as_segments(None, rows_of=x, mask=mask)
    mask[0] = ~mask[0]
    assert as_segments(batch, rows_of=x, num_segments=5, mask=mask) is not first


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("training", [True, False])
def test_wrong_masks_and_residuals(name: str, training: bool) -> None:
    layer = ALL[name][0](3, backend="auto").train(training)
    x, batch = torch.zeros(4, 3), torch.tensor([0, 0, 1, 1])
    for mask, words in (
        (torch.ones(5, dtype=torch.bool), r"mask is \(5,\) of torch.bool, expected one bool per"),
        (torch.ones(4), r"mask is \(4,\) of torch.float32"),
        ([True] * 4, "mask is a list"),
    ):
        with pytest.raises(ValueError, match=words):
            layer(x, batch, 2, mask=mask)
    for residual in (torch.zeros(4, 2), torch.zeros(4, 3).double()):
        with pytest.raises(ValueError, match=r"residual is .* like x"):
            layer(x, batch, 2, residual=residual)
