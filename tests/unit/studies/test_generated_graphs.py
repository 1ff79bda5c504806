"""Generated graphs like those of social networks: what their sources say of size and shape."""

from __future__ import annotations

import pytest
import torch

from graphnorms.data import GraphSet
from graphnorms.studies.generated_graphs import casts, threads


def sizes(given: GraphSet) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the number of nodes, and of undirected edges, of each graph."""
    nodes = given.ptr.diff()
    edges = given.edge_ptr[given.ptr[1:]] - given.edge_ptr[given.ptr[:-1]]
    return nodes, edges // 2


def test_casts_are_like_imdb() -> None:
    """20 nodes and 97 edges on average there, 139 of 1000 graphs complete."""
    given = casts(1000, seed=0)
    nodes, edges = sizes(given)
    assert given.class_counts == (500, 500)
    assert given.symmetric
    assert nodes.double().mean() == pytest.approx(20, abs=1)
    assert edges.double().mean() == pytest.approx(97, abs=5)
    complete = 2 * edges == nodes * (nodes - 1)
    assert complete.double().mean() == pytest.approx(0.16, abs=0.04)
    for number in range(20):  # an actor is linked to all others
        degree = given.batch(torch.tensor([number])).adjacency.in_degree
        assert int(degree[0]) == len(degree) - 1


def test_threads_are_trees_with_experts() -> None:
    given = threads(200, seed=0)
    nodes, edges = sizes(given)
    assert torch.equal(edges, nodes - 1)
    assert (int(nodes.min()), int(nodes.max())) == (20, 60)
    assert given.num_features == 1
    most = torch.stack(
        [given.batch(torch.tensor([number])).adjacency.in_degree.max() for number in range(200)]
    )
    share = most / nodes
    assert share[0::2].mean() > 1.3 * share[1::2].mean()
    # The classes overlap: neither can be told by that alone.
    assert share[0::2].min() < share[1::2].max()


@pytest.mark.parametrize("make", [casts, threads])
def test_the_seed_draws_them(make) -> None:
    first, again, other = make(8, seed=1), make(8, seed=1), make(8, seed=2)
    assert first.fingerprint == again.fingerprint != other.fingerprint
