"""ConditionalNorm as the plain normalization that it begins as, and its conditions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from graphnorms.layers.conditional_norm import ConditionalNorm
from graphnorms.layers.custom_norm import CustomNorm
from graphnorms.segments import Segments
from tests.conformance.oracle import POINTS
from tests.norms import normal, randomize


@pytest.mark.parametrize(("center", "scale"), POINTS)
def test_begins_as_the_plain_normalization(center: str, scale: str) -> None:
    batch, size = torch.arange(16) * 7 % 5, 5
    x = normal(16, 6, seed=0)
    layer = ConditionalNorm(6, 4, center, scale, dtype=torch.float64)
    plain = CustomNorm(6, center, scale, affine=False)
    y = layer(x, batch, size, condition=normal(size, 4, seed=1))
    torch.testing.assert_close(y, plain(x, batch, size), rtol=1e-12, atol=1e-12)


def test_a_graph_sees_its_own_condition_alone() -> None:
    batch, size = torch.arange(16) // 4, 4
    layer = ConditionalNorm(6, 4, dtype=torch.float64)
    randomize(layer)
    x, condition = normal(16, 6, seed=0), normal(size, 4, seed=1)
    other = condition.clone()
    other[3] += 1
    same = layer(x, batch, size, condition=condition) == layer(x, batch, size, condition=other)
    assert same[batch != 3].all()
    assert not same[batch == 3].any()


def test_autocast_does_not_round_the_parameters() -> None:
    layer = ConditionalNorm(6, 4)
    randomize(layer)
    x, condition = (normal(*shape, seed=0, dtype=torch.float32) for shape in ((5, 6), (1, 4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x, condition=condition)
    assert torch.equal(y, layer(x, condition=condition))


def test_on_the_meta_device() -> None:
    layer = ConditionalNorm(6, 4, device="meta")
    x, condition = torch.empty(5, 6, device="meta"), torch.empty(1, 4, device="meta")
    assert layer(x, condition=condition).is_meta


def test_half_precision_condition() -> None:
    layer = ConditionalNorm(6, 4)
    randomize(layer)
    x = normal(5, 6, seed=0, dtype=torch.bfloat16)
    y = layer(x, condition=normal(1, 4, seed=1, dtype=torch.bfloat16))
    assert y.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "condition is not given; pass condition=, 4 numbers for each graph"),
        (
            {"condition": torch.zeros(3, 4)},
            r"condition is \(3, 4\) of torch.float32, expected one row per graph .* \(2, 4\)",
        ),
        ({"condition": torch.zeros(2, 5)}, r"condition is \(2, 5\)"),
        ({"condition": torch.zeros(2, 4, dtype=torch.long)}, r"of torch.int64"),
    ],
)
def test_wrong_conditions(arguments: dict[str, Any], message: str) -> None:
    layer = ConditionalNorm(6, 4)
    batch = torch.tensor([0, 0, 1, 1])
    for given, size in ((batch, 2), (Segments.from_batch(batch, 2), None)):
        with pytest.raises(ValueError, match=message):
            layer(torch.zeros(4, 6), given, size, **arguments)


def test_without_batch_size_the_condition_says_how_many_graphs() -> None:
    layer = ConditionalNorm(6, 4)
    batch = torch.tensor([0, 0, 1, 1])
    assert layer(torch.zeros(4, 6), batch, condition=torch.zeros(3, 4)).shape == (4, 6)
    with pytest.raises(ValueError, match="batch has the id 1, but batch_size is 1"):
        layer(torch.zeros(4, 6), batch, condition=torch.zeros(1, 4))
    with pytest.raises(ValueError, match="batch_size is 3, but the Segments given has 2"):
        layer(torch.zeros(4, 6), Segments.from_batch(batch, 2), 3, condition=torch.zeros(2, 4))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="condition_channels is 0, expected a positive number"):
        ConditionalNorm(6, 0)
    with pytest.raises(ValueError, match="unknown center 'grph'"):
        ConditionalNorm(6, 4, "grph")
    assert repr(ConditionalNorm(6, 4, groups=1)).startswith(
        "ConditionalNorm(\n  6, 4, center=graph, scale=graph, groups=1, per=graph\n"
    )


def test_a_condition_per_node_is_that_of_weather_models() -> None:
    """(1 + W c + w) LN(x) + V c + v, whose two maps become the halves of ours."""
    scale, bias = nn.Linear(4, 6), nn.Linear(4, 6)
    theirs = nn.ModuleDict({"scale": scale, "bias": bias})
    layer = ConditionalNorm(6, 4, "node", "node", per="node")
    layer.load_state_dict(theirs.state_dict())
    x = normal(9, 6, seed=0, dtype=torch.float32).requires_grad_()
    condition = normal(9, 4, seed=1, dtype=torch.float32).requires_grad_()
    y = layer(x, condition=condition)
    expected = nn.functional.layer_norm(x, (6,)) * (scale(condition) + 1) + bias(condition)
    torch.testing.assert_close(y, expected)
    found, wanted = (
        torch.autograd.grad(result, (x, condition), torch.cos(expected)) for result in (y, expected)
    )
    for got, want in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, want)
    mask = torch.arange(9) % 4 != 1
    y = layer(x, condition=condition, mask=mask)
    torch.testing.assert_close(y[mask], expected[mask])
    assert torch.equal(y[~mask], x[~mask])


def test_a_condition_per_node_beside_statistics_per_graph() -> None:
    batch = torch.tensor([2, 0, 2, 1, 0, 2])
    layer = ConditionalNorm(6, 4, per="node", dtype=torch.float64)
    randomize(layer)
    x, of_graphs = normal(6, 6, seed=0), normal(3, 4, seed=1)
    per_graph = ConditionalNorm(6, 4, dtype=torch.float64)
    per_graph.load_state_dict(layer.state_dict())
    y = layer(x, batch, 3, condition=of_graphs[batch])
    torch.testing.assert_close(y, per_graph(x, batch, 3, condition=of_graphs))
    with pytest.raises(ValueError, match=r"one row per node of a floating dtype, \(6, 4\)"):
        layer(x, batch, 3, condition=of_graphs)
    with pytest.raises(ValueError, match="unknown per 'row'"):
        ConditionalNorm(6, 4, per="row")
