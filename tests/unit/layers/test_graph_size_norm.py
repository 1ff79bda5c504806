"""GraphSizeNorm against PyG's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphnorms.layers.graph_size_norm import GraphSizeNorm
from tests.norms import import_pyg, normal


@pytest.mark.parametrize("batch", [None, torch.arange(40) // 7, torch.arange(40).int() * 7 % 4])
def test_equals_pyg(batch: Tensor | None) -> None:
    theirs, ours = import_pyg().GraphSizeNorm(), GraphSizeNorm()
    x = normal(40, 6)
    expected = theirs(x, None if batch is None else batch.long())
    torch.testing.assert_close(ours(x, batch), expected, rtol=1e-14, atol=0)
    assert repr(ours) == repr(theirs) == "GraphSizeNorm()"
    assert list(ours.state_dict()) == list(theirs.state_dict()) == []


def test_counts_in_half_precision() -> None:
    """PyG counts 70000 nodes as infinitely many in float16."""
    x = torch.ones(70000, 1, dtype=torch.float16)
    assert (import_pyg().GraphSizeNorm()(x) == 0).all()
    assert GraphSizeNorm()(x)[0].item() == pytest.approx(70000**-0.5, rel=1e-3)


def test_epilogue_mask_and_positions(backend: str) -> None:
    layer = GraphSizeNorm(activation="relu", backend=backend)
    x, batch, residual = normal(20, 3, 5), torch.arange(20) // 5, normal(20, 3, 5, seed=1)
    mask = torch.arange(20) % 5 != 1
    y = layer(x, batch, 4, residual=residual, mask=mask)
    assert torch.equal(y[~mask], (x + residual)[~mask])
    torch.testing.assert_close(y[mask], (x / 2).relu()[mask] + residual[mask])


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="batch has the negative id -1"):
        GraphSizeNorm()(torch.zeros(2, 2), torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="unknown backend 'gpu'"):
        GraphSizeNorm(backend="gpu")(torch.zeros(2, 2))
