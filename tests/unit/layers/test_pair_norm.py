"""PairNorm and the variant of the authors' code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from graphnorms.layers.pair_norm import PairNorm
from graphnorms.segments import Segments
from tests.conformance.oracle import pair_norm, rows_of
from tests.norms import close, import_pyg, normal

KINDS: dict[str, dict[str, Any]] = {
    "together": {"scale": 1.5},
    "individually": {"scale": 0.7, "scale_individually": True},
    "simultaneously": {"scale": 2.5, "simultaneously": True},
}


@pytest.mark.parametrize("kind", ["together", "individually"])
@pytest.mark.parametrize("batch", [None, torch.arange(40) // 7, torch.arange(40).int() * 7 % 4])
def test_equals_pyg(kind: str, batch: Tensor | None) -> None:
    pyg = import_pyg()
    ours, theirs = PairNorm(**KINDS[kind], eps=0.01), pyg.PairNorm(**KINDS[kind], eps=0.01)
    results = []
    for layer, ids in ((ours, batch), (theirs, None if batch is None else batch.long())):
        x = (normal(40, 6) + 2).requires_grad_()
        y = layer(x, ids)
        y.backward(normal(40, 6, seed=4))
        assert x.grad is not None
        results.append((y.detach(), x.grad))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
    assert repr(ours) == repr(theirs) == "PairNorm()"
    assert list(ours.state_dict()) == list(theirs.state_dict()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_position_alone(kind: str, backend: str) -> None:
    layer = PairNorm(**KINDS[kind], backend=backend)
    x, batch, residual = normal(20, 3, 6), torch.arange(20) // 5, normal(20, 3, 6, seed=1)
    mask = torch.arange(20) % 3 != 1
    y = layer(x, batch, 4, residual=residual, mask=mask)
    each = [
        layer(x[:, p], batch, 4, residual=residual[:, p].contiguous(), mask=mask) for p in range(3)
    ]
    torch.testing.assert_close(y, torch.stack(each, 1))
    assert torch.equal(y[~mask], (x + residual)[~mask])


def test_positions_without_batch_are_those_of_one_graph() -> None:
    """PyG scales all positions together without batch, and each alone with a batch of zeros."""
    x, zeros = normal(20, 3, 6) * torch.tensor([1.0, 5.0, 25.0]).view(3, 1), torch.zeros(20).long()
    theirs, ours = import_pyg().PairNorm(), PairNorm()
    assert (theirs(x) - theirs(x, zeros)).abs().max() > 0.1
    torch.testing.assert_close(theirs(x, zeros), ours(x, zeros))
    torch.testing.assert_close(ours(x), ours(x, zeros))


@pytest.mark.parametrize("kind", ["together", "individually"])
def test_large_mean_costs_no_digits(kind: str) -> None:
    """At mean 1e4 PyG is off by 1e-3 and more."""
    x = (normal(5000, 16) + 1e4).float()
    batch = torch.arange(5000) // 1700
    exact = pair_norm(kind, KINDS[kind]["scale"])(x.double(), rows_of(batch, 3, 5000), {}, {})
    theirs = import_pyg().PairNorm(**KINDS[kind])(x, batch)
    assert (theirs.double() - exact).abs().max() > 1e-4
    close(PairNorm(**KINDS[kind])(x, batch), exact, 5e-6, "y")


def test_half_precision_keeps_its_range() -> None:
    """PyG's sums overflow in float16: NaN for many nodes, zeros for a large spread."""
    wide = (normal(300, 16) * 300).half()
    theirs = import_pyg().PairNorm()
    assert (theirs(wide) == 0).all()
    exact = pair_norm("together", 1.0)(wide.double(), [torch.arange(300)], {}, {})
    close(PairNorm()(wide), exact, 2e-3, "y")
    large = (normal(3000, 16) + 30).half()
    assert (
        torch.isnan(theirs(large, torch.zeros(3000).long())).any()
        or not torch.isfinite(theirs(large)).all()
    )
    assert torch.isfinite(PairNorm()(large)).all()


@pytest.mark.parametrize("kind", ["together", "individually"])
def test_graph_of_one_node_gives_zero(kind: str) -> None:
    x = normal(3, 4).requires_grad_()
    y = PairNorm(**KINDS[kind])(x, torch.arange(3))
    assert torch.equal(y, torch.zeros(3, 4, dtype=torch.float64))
    y.backward(normal(3, 4, seed=1))
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_mean_squared_distance_is_fixed() -> None:
    """What the paper is about: the mean squared distance of pairs is 2 s²."""
    y = PairNorm(scale=3.0)(normal(30, 8) * 7 + 2, torch.arange(30) // 15)
    for graph in y.split(15):
        squared = torch.cdist(graph, graph).pow(2).mean()
        assert squared.item() == pytest.approx(18, rel=1e-5)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"scale is 0\.0, expected a positive number"):
        PairNorm(0.0)
    with pytest.raises(ValueError, match="eps is -1"):
        PairNorm(eps=-1)
    with pytest.raises(ValueError, match="both True, expected at most one"):
        PairNorm(scale_individually=True, simultaneously=True)
    with pytest.raises(ValueError, match=r"x has shape \(4,\), expected \(nodes, …, channels\)"):
        PairNorm()(torch.zeros(4))
    with pytest.raises(ValueError, match=r"x has shape \(4, 0\), expected"):
        PairNorm()(torch.zeros(4, 0))
    with pytest.raises(ValueError, match=r"x is torch\.int64, expected a floating dtype"):
        PairNorm()(torch.zeros(4, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="but the Segments given has 1"):
        PairNorm()(torch.zeros(4, 3), Segments.single(4), 2)
    assert repr(PairNorm(activation="relu", dropout=0.5)) == (
        "PairNorm(activation='relu', dropout=0.5)"
    )


def test_a_class_derived_from_it_computes_the_same() -> None:
    class Derived(PairNorm):
        pass

    x, batch = torch.randn(12, 4), torch.arange(12) // 5
    assert torch.equal(Derived(scale=2.0)(x, batch, 3), PairNorm(scale=2.0)(x, batch, 3))
