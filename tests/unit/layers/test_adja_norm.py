"""AdjaNorm where it is LayerNorm, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from graphnorms.adjacency import Adjacency
from graphnorms.layers.adja_norm import AdjaNorm
from graphnorms.layers.layer_norm import LayerNorm
from tests.conformance.oracle import by_neighbours
from tests.norms import edges_within, normal


def test_without_edges_it_is_layer_norm_of_the_nodes() -> None:
    x = normal(7, 6, seed=0)
    none = Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.long), 7)
    mine = AdjaNorm(6, affine=False)(x, adjacency=none)
    torch.testing.assert_close(mine, LayerNorm(6, mode="node", affine=False)(x))


def test_in_a_complete_graph_it_is_layer_norm_of_the_graph() -> None:
    x = normal(7, 6, seed=0) * 3 + 8
    pairs = torch.cartesian_prod(torch.arange(7), torch.arange(7)).t()
    edges = Adjacency.from_edge_index(pairs[:, pairs[0] != pairs[1]], 7)
    mine = AdjaNorm(6, affine=False)(x, adjacency=edges)
    torch.testing.assert_close(mine, LayerNorm(6, affine=False)(x))


def test_the_node_itself_an_outlier_at_a_large_mean() -> None:
    x = (normal(40, 6, seed=0) + 1e4).float()
    x[0] += 100
    edges = edges_within(None, 40)
    y = AdjaNorm(6, affine=False)(x, adjacency=Adjacency.from_edge_index(edges, 40))
    torch.testing.assert_close(y.double(), by_neighbours(x.double(), edges), rtol=1e-5, atol=1e-5)


def test_missing_and_wrong_adjacency() -> None:
    layer, x = AdjaNorm(6), torch.zeros(4, 6)
    with pytest.raises(ValueError, match="adjacency is not given; pass adjacency=Adjacency"):
        layer(x)
    with pytest.raises(ValueError, match="adjacency is a Tensor, expected an Adjacency"):
        layer(x, adjacency=torch.zeros(2, 0, dtype=torch.long))
    none = torch.zeros(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="adjacency has 5 nodes, expected 4"):
        layer(x, adjacency=Adjacency.from_edge_index(none, 5))
    with pytest.raises(ValueError, match=r"eps is 0\.0"):
        AdjaNorm(6, eps=0.0)
    assert repr(layer) == "AdjaNorm(6, affine=True)"
