"""Granola against its formula, its random features given and drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.layers.granola import Granola
from graphnorms.layers.layer_norm import LayerNorm
from tests.unit.layers.battery import NormBattery, edges_within, normal, standardize

RING = torch.tensor([[0, 1, 2, 3, 1, 2, 3, 0], [1, 2, 3, 0, 0, 1, 2, 3]])


class TestGranola(NormBattery):
    def make(self, channels: int, **arguments: Any) -> nn.Module:
        return Granola(channels, 2, hidden_channels=5, random_channels=4, **arguments)

    def fresh(self, dtype: torch.dtype = torch.float64, **arguments: Any) -> nn.Module:
        torch.manual_seed(17)  # weights of either sign, so that some units are off
        return self.make(6, dtype=dtype, **arguments)

    def inputs(self, batch: Tensor | None, size: int, rows: int) -> dict[str, Any]:
        return {
            "edges": edges_within(batch, rows)[:, ::3],
            "random_features": normal(rows, 4, seed=31),
        }

    def without(self, inputs: dict[str, Any], mask: Tensor) -> dict[str, Any]:
        found = super().without(inputs, mask)
        return {**found, "random_features": found["random_features"][mask]}

    def oracle(
        self, x: Tensor, graphs: list[Tensor], p: dict[str, Tensor], inputs: dict[str, Any]
    ) -> Tensor:
        h = torch.cat((x, inputs["random_features"]), 1)
        source, target = inputs["edges"]
        for layer in range(2):
            total = [h[i] + h[source[target == i]].sum(0) for i in range(h.shape[0])]
            weight, bias = p[f"layers.{layer}.weight"], p[f"layers.{layer}.bias"]
            h = (torch.stack(total) @ weight.t() + bias).relu()
        both = h @ p["head.weight"].t() + p["head.bias"]
        return both[:, :6] * standardize(x, (1,)) + both[:, 6:]


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
