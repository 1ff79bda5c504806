"""ContraNorm by hand, and where nobody is left to push."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.layers.contra_norm import ContraNorm
from tests.norms import edges_within, normal


def test_one_large_graph_among_small_ones() -> None:
    """Where the padding would be larger than all pairs of nodes."""
    sizes = torch.tensor([40, *([1] * 30)])
    batch = torch.repeat_interleave(torch.arange(31), sizes)
    layer = ContraNorm(5, scale=0.5)
    x = normal(70, 5, seed=0)
    edges = edges_within(batch, 70)
    cross = torch.cat([edges, torch.tensor([[0, 69], [69, 1]])], 1)  # between graphs: no effect
    y = layer(x, batch, 31)
    torch.testing.assert_close(y[:40], layer(x[:40]))
    torch.testing.assert_close(y[40:], x[40:])
    near = layer(x, batch, 31, adjacency=Adjacency.from_edge_index(edges, 70))
    also = layer(x, batch, 31, adjacency=Adjacency.from_edge_index(cross, 70))
    torch.testing.assert_close(near, also)
    assert not torch.allclose(near, y)


def test_a_path_of_three_by_hand() -> None:
    """The ends push each other, and nobody pushes the middle."""
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    path = Adjacency.from_edge_index(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    y = ContraNorm(2, scale=1.0)(x, adjacency=path)
    expected = torch.tensor([[6.0, 6.0], [2.0, 0.0], [-3.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(y, expected)
    # All push all, the node itself too: each row of the softmax by hand.
    cosines = torch.tensor([[1, 0.6, 0.8], [0.6, 1, 0], [0.8, 0, 1]], dtype=torch.float64)
    shares = cosines.exp() / cosines.exp().sum(1, keepdim=True)
    torch.testing.assert_close(ContraNorm(2, scale=1.0)(x), 2 * x - shares @ x)


def test_edges_between_graphs_have_no_effect() -> None:
    batch, size = torch.arange(16) * 7 % 5, 5
    x = normal(16, 6, seed=0)
    every = torch.cartesian_prod(torch.arange(16), torch.arange(16)).t()
    cross = every[:, batch[every[0]] != batch[every[1]]]
    layer = ContraNorm(6)
    y = layer(x, batch, size, adjacency=Adjacency.from_edge_index(cross, 16))
    none = Adjacency.from_edge_index(cross[:, :0], 16)
    torch.testing.assert_close(y, layer(x, batch, size, adjacency=none))


def test_a_node_alone_and_scale_zero_change_nothing() -> None:
    x = normal(5, 6, seed=0)
    torch.testing.assert_close(ContraNorm(6, scale=2.0)(x, torch.arange(5), 5), x)
    torch.testing.assert_close(ContraNorm(6, scale=0.0)(x), x)


def test_nodes_are_spread_over_more_directions() -> None:
    x = normal(1, 8, seed=0) * 5 + normal(20, 8, seed=1)

    def rank(x: Tensor) -> float:
        share = torch.linalg.svdvals(x)
        share = share / share.sum()
        return float((-(share * share.log()).sum()).exp())

    y = x
    for _ in range(3):
        y = ContraNorm(8, scale=0.5)(y)
    assert rank(y) > rank(x)


def test_on_the_meta_device() -> None:
    x = torch.empty(6, 4, device="meta")
    batch = torch.zeros(6, dtype=torch.long, device="meta")
    assert ContraNorm(4)(x, batch, 2).is_meta


def test_rows_of_zeros() -> None:
    x = torch.zeros(4, 6, requires_grad=True)
    y = ContraNorm(6)(x)
    assert not y.any()
    y.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"scale is -1\.0, expected no negative number"):
        ContraNorm(4, scale=-1.0)
    with pytest.raises(ValueError, match=r"temperature is 0\.0, expected a positive number"):
        ContraNorm(4, temperature=0.0)
    edges = Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.long), 3)
    with pytest.raises(ValueError, match="adjacency has 3 nodes, expected 4"):
        ContraNorm(4)(torch.zeros(4, 4), adjacency=edges)
    assert repr(ContraNorm(4)) == "ContraNorm(4, scale=0.1, temperature=1.0)"
