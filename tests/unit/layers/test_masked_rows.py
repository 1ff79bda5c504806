"""Masked rows: they neither count nor change, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphnorms.layers.graph_size_norm import GraphSizeNorm
from graphnorms.layers.hetero_batch_norm import HeteroBatchNorm
from graphnorms.layers.hetero_layer_norm import HeteroLayerNorm
from graphnorms.layers.mean_subtraction_norm import MeanSubtractionNorm
from graphnorms.layers.pair_norm import PairNorm
from tests.unit.layers.common import normal, randomize

Make = Callable[..., nn.Module]
LAYERS: dict[str, tuple[Make, bool]] = {
    # How it is made, and whether it takes a number of graphs behind the vector.
    "pair": (lambda **k: PairNorm(2.0, **k), True),
    "pair individually": (lambda **k: PairNorm(scale_individually=True, **k), True),
    "pair simultaneously": (lambda **k: PairNorm(simultaneously=True, **k), True),
    "mean subtraction": (MeanSubtractionNorm, True),
    "graph size": (GraphSizeNorm, True),
    "hetero batch": (lambda **k: HeteroBatchNorm(9, 5, **k), False),
    "hetero batch cumulative": (lambda **k: HeteroBatchNorm(9, 5, momentum=None, **k), False),
    "hetero layer": (lambda **k: HeteroLayerNorm(9, 5, **k), False),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", ["sorted", "unsorted"])
@pytest.mark.parametrize("name", LAYERS)
def test_as_if_the_rows_were_not_there(
    name: str, order: str, dtype: torch.dtype, backend: str
) -> None:
    make, sized = LAYERS[name]
    generator = torch.Generator().manual_seed(0)
    batch = torch.repeat_interleave(torch.arange(5), torch.tensor([5, 80, 0, 7, 40]))
    mask = torch.rand(batch.shape[0], generator=generator) < 0.6
    mask[batch == 3] = False  # a graph without a row that counts
    if order == "unsorted":
        shuffle = torch.randperm(batch.shape[0], generator=generator)
        batch, mask = batch[shuffle], mask[shuffle]
    rest: tuple[Any, ...] = (5,) if sized else ()
    x, residual, grad_y = (normal(batch.shape[0], 9, seed=i, dtype=dtype) for i in range(3))
    results: list[list[Tensor]] = []
    for masked in (True, False):
        layer = make(
            activation="silu", backend=backend, dtype=torch.promote_types(dtype, torch.float32)
        )
        randomize(layer)
        leaf = x.clone()
        if masked:
            leaf[~mask] = float("nan")
        leaf.requires_grad_()
        if masked:
            y = layer(leaf, batch, *rest, residual=residual, mask=mask)
            assert torch.isnan(y[~mask]).all()
            y.backward(grad_y)
            assert leaf.grad is not None
            assert torch.equal(leaf.grad[~mask], grad_y[~mask])
            leaf.grad[~mask] = 0
            y = y[mask]
        else:
            y = layer(leaf[mask], batch[mask], *rest, residual=residual[mask])
            y.backward(grad_y[mask])
        assert leaf.grad is not None
        grads = [p.grad for p in layer.parameters() if p.grad is not None]
        results.append([y.detach(), leaf.grad, *grads, *layer.buffers()])
    allowed = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(*results, rtol=allowed, atol=allowed)


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_and_masked_rows(name: str, backend: str) -> None:
    make, sized = LAYERS[name]
    layer = make(dropout=0.5, backend=backend)
    x, batch = normal(40, 9).float(), torch.arange(40) % 5
    mask = torch.arange(40) % 3 != 0
    y = layer(x, batch, *((5,) if sized else ()), mask=mask)
    assert torch.equal(y[~mask], x[~mask])
    share = float((y[mask] == 0).float().mean())
    assert 0.35 < share < 0.65


@pytest.mark.parametrize("name", LAYERS)
def test_nan_stays_in_its_graph(name: str, backend: str) -> None:
    make, sized = LAYERS[name]
    layer = make(backend=backend)
    x, batch = normal(40, 9).float(), torch.arange(40) % 5
    rest = (5,) if sized else ()
    clean = layer(x, batch, *rest)
    x[6, 4] = float("nan")
    y = layer(x, batch, *rest)
    assert torch.isnan(y[6, 4])
    assert torch.equal(y[batch != 1], clean[batch != 1])
