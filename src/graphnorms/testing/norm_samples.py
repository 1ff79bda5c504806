"""The layer that `check_norm` checks, and the small batches that it is called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency

MakeNorm = Callable[[int], nn.Module]
Given = Callable[[Tensor | None, int, int], dict[str, Any]]

BATCH = (2, 0, 2, 1, 0, 2, 2, 1, 2)
"""Unsorted, of three graphs of 2, 2 and 5 nodes."""


@dataclass(frozen=True)
class Sample:
    """The arguments of one call of a layer."""

    x: Tensor
    batch: Tensor | None
    size: int
    more: dict[str, Any]

    def run(self, layer: nn.Module, **more: Any) -> Tensor:
        """Call a layer, with floating arguments in the dtype of its parameters."""
        wide = torch.promote_types(self.x.dtype, torch.float32)
        own = {
            name: value.to(wide)
            if isinstance(value, Tensor) and value.is_floating_point()
            else value
            for name, value in self.more.items()
        }
        graphs = () if self.batch is None else (self.batch, self.size)
        y: Tensor = layer(self.x, *graphs, **own, **more)
        return y

    def of(self, x: Tensor) -> Sample:
        """Return the sample with other features."""
        return replace(self, x=x)

    def take(self, rows: Tensor) -> Sample:
        """Return some rows in this order, with the edges between them."""
        number = torch.full((self.x.shape[0],), -1)
        number[rows] = torch.arange(rows.shape[0])
        more = {}
        for name, value in self.more.items():
            if isinstance(value, Adjacency):
                edges = number[value.to_edge_index()]
                value = Adjacency.from_edge_index(edges[:, (edges >= 0).all(0)], rows.shape[0])
            elif isinstance(value, Tensor) and value.shape[0] == self.x.shape[0]:
                value = value[rows]
            more[name] = value
        assert self.batch is not None
        return Sample(self.x[rows], self.batch[rows], self.size, more)

    def graph(self, number: int) -> Sample:
        """Return one graph without the others."""
        assert self.batch is not None
        alone = self.take((self.batch == number).nonzero()[:, 0])
        more = {
            name: value[number : number + 1]
            if isinstance(value, Tensor) and value.shape[0] == self.size
            else value
            for name, value in alone.more.items()
        }
        return Sample(alone.x, None, 1, more)


@dataclass(frozen=True)
class NormUnderTest:
    """The layer under test: how to build it, its further arguments, and components if it has."""

    make: MakeNorm
    given: Given
    components: int | None = None

    def layer(self, channels: int, dtype: torch.dtype = torch.float64) -> nn.Module:
        """Build a layer in training mode with parameters away from 0 and 1."""
        torch.manual_seed(0)
        layer = self.make(channels).to(dtype).train()
        if "batch" not in inspect.signature(layer.forward).parameters:
            layer = WithoutBatch(layer)
        if self.components is not None:
            layer = OfComponents(layer, self.components)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in layer.parameters():
                noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(noise.to(dtype) * 0.5)
        return layer

    def sample(self, x: Tensor, batch: Tensor | None = None, size: int = 1) -> Sample:
        """Make a sample with the further arguments of the layer."""
        return Sample(x, batch, size, self.given(batch, size, x.shape[0]))

    def some(self, channels: int = 6, dtype: torch.dtype = torch.float64) -> Sample:
        """Make a sample of nine nodes in three graphs."""
        return self.sample(features(9, channels).to(dtype), torch.tensor(BATCH), 3)


def features(rows: int, channels: int, seed: int = 0) -> Tensor:
    """Draw standard normal features in float64, `(rows, channels)`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, channels, generator=generator, dtype=torch.float64)


class Adapter(nn.Module):
    """A layer that is called in another way than ours."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def reset_parameters(self) -> None:
        """Reset the layer."""
        self.layer.reset_parameters()  # type: ignore[operator]


class WithoutBatch(Adapter):
    """A layer that takes only features, like torch's BatchNorm."""

    def forward(
        self, x: Tensor, batch: Tensor | None = None, size: int | None = None, **more: Any
    ) -> Tensor:
        """Call the layer without the batch."""
        y: Tensor = self.layer(x, **more)
        return y


class OfComponents(Adapter):
    """A layer of features `(nodes, components, channels)`, called with `(nodes, channels)`.

    Component k of the features is theirs times ±1, ±2, ±4, …, exact in every dtype; the result is
    the sum over components of that of the layer, each times a number such that a layer which
    changes nothing changes nothing here, too. So every entry of the layer has a part in what is
    checked.
    """

    def __init__(self, layer: nn.Module, components: int) -> None:
        super().__init__(layer)
        power = torch.arange(components) % 3
        self.factors = (2.0**power * (1 - 2.0 * (torch.arange(components) % 2))).tolist()

    def forward(
        self, x: Tensor, batch: Tensor | None = None, size: int | None = None, **more: Any
    ) -> Tensor:
        """Call the layer with all components."""
        factors = x.new_tensor(self.factors).unsqueeze(1)  # (components, 1)
        y = self.layer(x.unsqueeze(1) * factors, batch, size, **more)
        wide = torch.promote_types(y.dtype, torch.float32)
        back = 1 / (len(self.factors) * factors.to(wide))
        total: Tensor = (y.to(wide) * back).sum(1)
        return total.to(y.dtype)
