"""Layers in the place of a norm that do by construction what a claim says of it, or do not."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from graphnorms.models import NormSlot
from graphnorms.models.readout import readout
from graphnorms.segments import Segments

Transform = Callable[[Tensor, Segments], Tensor]
"""What a planted layer makes of features and their graphs; of the shape of the features."""


class PlantedNorm(nn.Module):
    """A transform, ReLU, and the residual sum, as the normalization of a `NormSlot`."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, segments: Segments, residual: Tensor | None = None) -> Tensor:
        """Transform and activate the features, and add the residual."""
        y = self.transform(x, segments).relu()
        return y if residual is None else y + residual


def plant(model: nn.Module, transform: Transform) -> None:
    """Replace every normalization of a graph network by a planted layer."""
    for module in model.modules():
        if isinstance(module, NormSlot):
            module.norm = PlantedNorm(transform)


def centered(x: Tensor, segments: Segments) -> Tensor:
    """Subtract the mean of each graph."""
    return x - readout(x, segments, "mean")[segments.index]


def erased(x: Tensor, segments: Segments) -> Tensor:
    """Let nothing through, as subtracting the mean does where the nodes of a graph are alike."""
    return x * 0


def halved(x: Tensor, segments: Segments) -> Tensor:
    """Halve the features: all their information is left."""
    return x / 2
