"""What Granola draws, tells apart and refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.granola import Granola
from graphnorms.layers.layer_norm import LayerNorm
from tests.norms import normal

RING = torch.tensor([[0, 1, 2, 3, 1, 2, 3, 0], [1, 2, 3, 0, 0, 1, 2, 3]])


def test_random_features_are_drawn_anew_and_by_torchs_generator() -> None:
    layer = Granola(6).eval()
    edges = Adjacency.from_edge_index(RING, 4)
    x = normal(4, 6, seed=0, dtype=torch.float32)
    torch.manual_seed(3)
    first = layer(x, adjacency=edges)
    assert not torch.equal(layer(x, adjacency=edges), first)
    torch.manual_seed(3)
    assert torch.equal(layer(x, adjacency=edges), first)
    torch.manual_seed(3)
    drawn = torch.randn(4, 6)
    assert torch.equal(layer(x, adjacency=edges, random_features=drawn), first)


def test_tells_apart_nodes_that_are_alike() -> None:
    x = torch.ones(4, 6) * torch.arange(6)
    edges = Adjacency.from_edge_index(RING, 4)
    plain = Granola(6, random_channels=0)(x, adjacency=edges)
    torch.testing.assert_close(plain, plain[:1].expand(4, 6))
    assert float(Granola(6)(x, adjacency=edges).detach().std(0).max()) > 1e-3


def test_renumbering_the_nodes_renumbers_the_result() -> None:
    layer = Granola(6, dtype=torch.float64)
    x, drawn = normal(4, 6, seed=0), normal(4, 6, seed=1)
    order = torch.tensor([2, 0, 3, 1])
    y = layer(x, adjacency=Adjacency.from_edge_index(RING, 4), random_features=drawn)
    moved = Adjacency.from_edge_index(torch.argsort(order)[RING], 4)
    torch.testing.assert_close(
        layer(x[order], adjacency=moved, random_features=drawn[order]), y[order]
    )


def test_without_what_the_network_says_it_is_layer_norm() -> None:
    layer = Granola(6, dtype=torch.float64)
    nn.init.zeros_(layer.head.weight)
    x = normal(4, 6, seed=0)
    y = layer(x, adjacency=Adjacency.from_edge_index(RING, 4))
    torch.testing.assert_close(y, LayerNorm(6, mode="node", affine=False)(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0, expected 1 or more"),
        ({"hidden_channels": 0}, "hidden_channels is 0, expected 1 or more"),
        ({"random_channels": -1}, "random_channels is -1, expected 0 or more"),
        ({"eps": 0.0}, r"eps is 0\.0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Granola(6, **arguments)


def test_missing_edges_and_wrong_random_features() -> None:
    layer, x = Granola(6), torch.zeros(4, 6)
    with pytest.raises(ValueError, match="adjacency is not given"):
        layer(x)
    edges = Adjacency.from_edge_index(RING, 4)
    with pytest.raises(ValueError, match=r"random_features is \(4, 5\), expected .* \(4, 6\)"):
        layer(x, adjacency=edges, random_features=torch.zeros(4, 5))
    assert repr(layer).startswith("Granola(\n  6, random_channels=6\n")
