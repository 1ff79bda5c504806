"""SuperNorm against its formula, and the factors of subgraphs known by heart."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.super_norm import SuperNorm, subgraph_factors
from tests.unit.layers.battery import BATCHES, NormBattery, normal, per_graph, standardize


def adjacency(edges: list[tuple[int, int]], nodes: int) -> Adjacency:
    pairs = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()
    return Adjacency.from_edge_index(pairs, nodes)


class TestSuperNorm(NormBattery):
    affine = True

    def make(self, channels: int, **arguments: Any) -> nn.Module:
        return SuperNorm(channels, affine=self.affine, **arguments)

    def inputs(self, batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
        return {"factors": normal(rows, seed=41).abs() * 3 + 0.5}

    def without(self, inputs: dict[str, Any], mask: Tensor) -> dict[str, Any]:
        return {"factors": inputs["factors"][mask]}

    def oracle(
        self, x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], inputs: dict[str, Any]
    ) -> Tensor:
        xi = inputs["factors"][:, None]
        c = per_graph(xi, graphs, lambda g, _: g * g / g.sum())
        e = per_graph(c, graphs, lambda g, _: g / g.sum())
        mean = per_graph(x, graphs, lambda g, _: g.mean(0, True).expand_as(g))
        standard = standardize(x + p["calibration"] * c * mean, (0,))
        if not self.affine:
            return e ** p["enhancement"] * standard
        return 0.5 * (p["weight"] + e ** p["enhancement"]) * standard + p["bias"]


class TestWithoutParameters(TestSuperNorm):
    affine = False


def test_begins_as_batch_norm() -> None:
    batch, size = BATCHES["unsorted"]
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
    found = subgraph_factors(adjacency(edges, 6), spectral=False)
    assert found.tolist() == [1, 4, 4, 9, 9, 9]
    found = subgraph_factors(adjacency(edges, 6))
    pair = 4 + 0.02 + 0.1 * (1 + 0.1)
    triangle = 9 + 0.03 + 0.1 * (2 + 0.1 + 0.01)
    torch.testing.assert_close(found, torch.tensor([1, pair, pair, *[triangle] * 3]))
    # A star of three leaves: the hub sees it all, a leaf one edge.
    found = subgraph_factors(adjacency([(0, 1), (0, 2), (0, 3)], 4))
    hub = 6 / 12 * 16 + 0.04 + 0.1 * math.sqrt(3) * 1.1
    torch.testing.assert_close(found, torch.tensor([hub, pair, pair, pair]))
    assert subgraph_factors(adjacency([], 0)).shape == (0,)


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
