"""SuperNorm where it is BatchNorm, and the factors of subgraphs known by heart."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.super_norm import SuperNorm, subgraph_factors
from tests.norms import normal


def adjacency(edges: list[tuple[int, int]], nodes: int) -> Adjacency:
    pairs = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()
    return Adjacency.from_edge_index(pairs, nodes)


def test_begins_as_batch_norm() -> None:
    batch, size = torch.arange(16) * 7 % 5, 5
    x = normal(16, 6, seed=0)
    factors = normal(16, seed=1).abs() + 1
    mine, theirs = SuperNorm(6, dtype=torch.float64), BatchNorm(6, dtype=torch.float64)
    torch.testing.assert_close(mine(x, batch, size, factors=factors), theirs(x))
    running = mine.batch_norm.module
    assert torch.equal(running.running_mean, theirs.module.running_mean)
    assert torch.equal(running.running_var, theirs.module.running_var)


def test_tells_apart_nodes_that_are_alike() -> None:
    """A path and a triangle: without factors every node of a batch of ones gives 0."""
    edges = adjacency([(0, 1), (1, 2), (3, 4), (4, 5), (5, 3)], 6)
    layer = SuperNorm(1)
    nn.init.ones_(layer.calibration)
    batch = torch.arange(6) // 3
    y = layer(torch.ones(6, 1), batch, 2, factors=subgraph_factors(edges)).detach()
    assert float((y[:3].mean() - y[3:].mean()).abs()) > 0.1


def test_factors_of_known_subgraphs() -> None:
    # A node alone, an edge, a triangle with loops, twice-listed and one-way edges.
    edges = [(1, 2), (3, 4), (4, 5), (5, 3), (3, 4), (4, 4)]
    found = subgraph_factors(adjacency(edges, 6))
    pair = 4 + 0.01 * (1 + 0.01) + 0.0001 * 2
    triangle = 9 + 0.01 * (2 + 0.01 + 0.0001) + 0.0001 * 3
    exactly(found, [1, pair, pair, *[triangle] * 3])
    # A star of three leaves: the hub sees it all, a leaf one edge.
    found = subgraph_factors(adjacency([(0, 1), (0, 2), (0, 3)], 4))
    hub = 6 / 12 * 16 + 0.01 * math.sqrt(3) * 1.01 + 0.0001 * 4
    exactly(found, [hub, pair, pair, pair])
    assert subgraph_factors(adjacency([], 0)).shape == (0,)
    with pytest.raises(ValueError, match="unknown level 'edge'"):
        subgraph_factors(adjacency([], 0), level="edge")


def exactly(found: Tensor, expected: list[float]) -> None:
    """Up to the rounding of a factor to float32."""
    wanted = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), wanted, rtol=2**-23, atol=0)


GRAPHS = {
    "path": (5, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    "star and a node alone": (6, [(0, 1), (0, 2), (0, 3), (0, 4)]),
    "complete": (5, list(itertools.combinations(range(5), 2))),
    "triangle with a tail": (5, [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)]),
    "ring with chords": (7, [*((i, (i + 1) % 7) for i in range(7)), (0, 2), (0, 3)]),
}


@pytest.mark.parametrize("level", ["graph", "node"])
@pytest.mark.parametrize("name", GRAPHS)
def test_factors_are_those_of_the_published_code(name: str, level: str) -> None:
    """Its three terms, node by node, with eigenvalues: a symmetric matrix has their sizes."""
    nodes, edges = GRAPHS[name]
    expected = []
    for node in range(nodes):
        around = sorted({node}.union(*({i, j} for i, j in edges if node in (i, j))))
        inside = [(i, j) for i, j in edges if i in around and j in around]
        n = len(around)
        if n == 1:
            expected.append(1.0)
            continue
        matrix = np.eye(n) * (0.001 if level == "node" else 0)
        for i, j in inside:
            matrix[around.index(i), around.index(j)] = matrix[around.index(j), around.index(i)] = 1
        sizes = sorted(np.abs(np.linalg.eigvalsh(matrix)), reverse=True)
        spectrum = sum(size * 0.01**k for k, size in enumerate(sizes))
        dense = 2 * len(inside) / (n * (n - 1))
        expected.append(dense * n * n + spectrum * 0.01 + n * 0.01**2)
    exactly(subgraph_factors(adjacency(edges, nodes), level=level), expected)


@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_rows_are_standardized_where_the_minibatch_is_one_graph(mode: str) -> None:
    x, factors = normal(6, 4, seed=0), normal(6, seed=1).abs() + 1
    batch = torch.arange(6) // 3
    always, never, layer = (
        SuperNorm(4, momentum=0.0, standardize_rows=given, dtype=torch.float64)
        for given in (True, False, None)
    )
    decides: Any = layer if mode == "eager" else torch.compile(layer, backend="eager")
    rows = (x - x.mean(1, True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    for training in (True, False):
        for each in (always, never, layer):
            each.train(training)
        single = never(rows, factors=factors)
        torch.testing.assert_close(decides(x, factors=factors), single)
        torch.testing.assert_close(always(x, factors=factors), single)
        several = never(x, batch, 2, factors=factors)
        torch.testing.assert_close(decides(x, batch, 2, factors=factors), several)
        assert not torch.allclose(always(x, batch, 2, factors=factors), several)
    assert repr(never) == "SuperNorm(4, affine=True, standardize_rows=False)"


def test_wrong_factors() -> None:
    layer, x = SuperNorm(6), torch.zeros(4, 6)
    with pytest.raises(ValueError, match="factors is not given; pass factors=subgraph_factors"):
        layer(x)
    with pytest.raises(ValueError, match=r"factors is \(4, 1\) of torch.float32, expected one"):
        layer(x, factors=torch.ones(4, 1))
    with pytest.raises(ValueError, match=r"factors is \(4,\) of torch.int64"):
        layer(x, factors=torch.ones(4, dtype=torch.long))
    with pytest.raises(ValueError, match="more than 1 value per channel when training"):
        layer(torch.zeros(1, 6), factors=torch.ones(1))
    assert repr(layer) == "SuperNorm(6, affine=True)"
