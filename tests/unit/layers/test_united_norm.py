"""UnitedNorm as each of its parts."""

from __future__ import annotations

import copy

import pytest
import torch

from graphnorms.adjacency import Adjacency
from graphnorms.layers.united_norm import UnitedNorm
from tests.conformance.oracle import rows_of, united_parts
from tests.norms import edges_within, normal


@pytest.mark.parametrize("part", ["batch", "graph", "adja", "node"])
def test_one_part_alone(part: str) -> None:
    batch, size = torch.arange(16) * 7 % 5, 5
    layer = UnitedNorm(6, dtype=torch.float64)
    with torch.no_grad():
        layer.get_parameter(f"lambda_{part}").fill_(200.0)
    x = normal(16, 6, seed=0)
    edges = edges_within(batch, 16)
    y = layer(x, batch, size, adjacency=Adjacency.from_edge_index(edges, 16))
    expected = united_parts(x, rows_of(batch, size, 16), edges)[part]
    torch.testing.assert_close(y, expected)


def test_proportions_begin_alike_and_sum_to_one() -> None:
    layer = UnitedNorm(6)
    torch.testing.assert_close(layer.proportions, torch.full((4, 6), 0.25))
    with torch.no_grad():
        layer.get_parameter("lambda_adja")[2] = 3.0
    torch.testing.assert_close(layer.proportions.sum(0), torch.ones(6))
    assert int(layer.proportions[:, 2].argmax()) == 2


def test_running_averages_are_batch_norms() -> None:
    layer = UnitedNorm(6, momentum=1.0, dtype=torch.float64)
    x = normal(16, 6, seed=0) + 2
    edges = Adjacency.from_edge_index(edges_within(None, 16), 16)
    layer(x, adjacency=edges)
    running = layer.batch_norm.module
    torch.testing.assert_close(running.running_mean, x.mean(0))
    torch.testing.assert_close(running.running_var, x.var(0))
    before = copy.deepcopy(layer.eval().state_dict())
    layer(x * 2, adjacency=edges)
    assert all(torch.equal(before[key], value) for key, value in layer.state_dict().items())


def test_missing_adjacency_and_a_single_row() -> None:
    layer = UnitedNorm(6)
    with pytest.raises(ValueError, match="adjacency is not given"):
        layer(torch.zeros(4, 6))
    one = Adjacency.from_edge_index(torch.zeros(2, 0, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="more than 1 value per channel when training"):
        layer(torch.zeros(1, 6), adjacency=one)
    assert layer.eval()(torch.zeros(1, 6), adjacency=one).shape == (1, 6)
    assert repr(layer) == "UnitedNorm(6)"
