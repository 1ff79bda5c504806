from __future__ import annotations

import pytest
import torch

from graphnorms.data import random_graphs
from graphnorms.data.graphset_checks import check_graph_set


def test_sizes_and_content() -> None:
    graphs = random_graphs(500, mean_nodes=30, num_features=37, num_classes=3, seed=4)
    check_graph_set(graphs)
    sizes = graphs.ptr.diff()
    assert len(graphs) == 500
    assert 28 < sizes.float().mean() < 32
    assert 3 <= sizes.min() < 15
    assert sizes.max() > 50
    assert graphs.symmetric
    assert torch.equal(graphs.x.sum(1), torch.ones(graphs.num_nodes))
    assert graphs.num_features == 37
    assert graphs.class_counts == (167, 167, 166)
    # As sparse as NCI1, with 1.08 bonds per atom, and nowhere denser than a molecule.
    assert 1.06 < graphs.num_edges / 2 / graphs.num_nodes < 1.10
    assert graphs.edge_ptr.diff().max() <= 8


def test_simple_connected_graphs(take_apart) -> None:
    for nodes, edges, _, _ in take_apart(random_graphs(40, mean_nodes=12, seed=3)):
        assert len(set(edges)) == len(edges)
        assert all(source != target for source, target in edges)
        reached, waiting = {0}, [0]
        while waiting:
            node = waiting.pop()
            near = {source for source, target in edges if target == node} - reached
            reached |= near
            waiting += near
        assert len(reached) == nodes


def test_seeds() -> None:
    assert random_graphs(9, seed=1).fingerprint == random_graphs(9, seed=1).fingerprint
    assert random_graphs(9, seed=1).fingerprint != random_graphs(9, seed=2).fingerprint


def test_smallest() -> None:
    graphs = random_graphs(1, mean_nodes=3, num_features=1, num_classes=1)
    assert (graphs.num_nodes, graphs.num_edges) == (3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_graphs": 0}, "num_graphs is 0, expected 1 or more"),
        ({"num_graphs": 1, "mean_nodes": 2.5}, "mean_nodes is 2.5, expected 3 or more"),
        ({"num_graphs": 1, "mean_nodes": float("nan")}, "mean_nodes is nan, expected 3 or more"),
        ({"num_graphs": 1, "num_features": 0}, "num_features is 0, expected 1 or more"),
        ({"num_graphs": 1, "num_classes": 0}, "num_classes is 0, expected 1 or more"),
    ],
)
def test_bad_numbers(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_graphs(**arguments)
