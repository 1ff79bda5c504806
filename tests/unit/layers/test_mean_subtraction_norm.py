"""MeanSubtractionNorm against PyG's, and what it leaves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphnorms.layers.mean_subtraction_norm import MeanSubtractionNorm
from tests.conformance.oracle import centred, mean_subtraction, rows_of
from tests.norms import close, import_pyg, normal


@pytest.mark.parametrize("batch", [None, torch.arange(40) // 7, torch.arange(40).int() * 7 % 4])
@pytest.mark.parametrize("shape", [(40, 6), (40, 3, 6)])
def test_equals_pyg(shape: tuple[int, ...], batch: Tensor | None) -> None:
    theirs, ours = import_pyg().MeanSubtractionNorm(), MeanSubtractionNorm()
    x = normal(*shape) + 2
    expected = theirs(x, None if batch is None else batch.long(), dim_size=batch is not None and 6)
    size = None if batch is None else 6
    torch.testing.assert_close(ours(x, batch, dim_size=size), expected, rtol=0, atol=1e-13)
    assert repr(ours) == repr(theirs) == "MeanSubtractionNorm()"
    assert list(ours.state_dict()) == list(theirs.state_dict()) == []


def test_large_mean_costs_no_digits() -> None:
    """At mean 1e4 PyG is off by 1e-3 and more."""
    x = (normal(5000, 16) + 1e4).float()
    exact = centred(x.double(), (0,))
    zeros = torch.zeros(5000, dtype=torch.long)
    theirs = import_pyg().MeanSubtractionNorm()(x, zeros)
    assert (theirs.double() - exact).abs().max() > 1e-3
    close(MeanSubtractionNorm()(x, zeros), exact, 5e-6, "y")


def test_sums_in_half_precision() -> None:
    """PyG's sum of 3000 numbers near 30 is beyond float16."""
    x = (normal(3000, 4) + 30).half()
    zeros = torch.zeros(3000, dtype=torch.long)
    assert not torch.isfinite(import_pyg().MeanSubtractionNorm()(x, zeros)).all()
    close(MeanSubtractionNorm()(x, zeros), centred(x.double(), (0,)), 4e-3, "y")


def test_only_the_mean_goes() -> None:
    """A constant in a channel of a graph changes nothing; a factor comes through."""
    layer, x, batch = MeanSubtractionNorm(), normal(20, 5), torch.arange(20) // 5
    y = layer(x, batch)
    torch.testing.assert_close(layer(x + normal(4, 5, seed=2)[batch] * 100, batch), y)
    torch.testing.assert_close(layer(3 * x, batch), 3 * y)
    assert torch.equal(layer(x, torch.arange(20)), torch.zeros_like(x))


def test_epilogue_and_mask(backend: str) -> None:
    layer = MeanSubtractionNorm(activation="relu", backend=backend)
    x, batch, residual = normal(20, 3, 5), torch.arange(20) // 5, normal(20, 3, 5, seed=1)
    mask = torch.arange(20) % 3 != 1
    y = layer(x, batch, 4, residual=residual, mask=mask)
    assert torch.equal(y[~mask], (x + residual)[~mask])
    expected = mean_subtraction(x[mask], rows_of(batch[mask], 4, 20), {}, {}).relu()
    torch.testing.assert_close(y[mask], expected + residual[mask])


def test_bad_arguments() -> None:
    layer, x = MeanSubtractionNorm(), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="batch has the id 4, but dim_size is 3"):
        layer(x, torch.tensor([0, 4, 1]), 3)
    with pytest.raises(ValueError, match="batch assigns 2 rows, but x has 3"):
        layer(x, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"x has shape \(3,\), expected"):
        layer(torch.zeros(3))
    with pytest.raises(ValueError, match="unknown activation 'rely'"):
        MeanSubtractionNorm(activation="rely")
