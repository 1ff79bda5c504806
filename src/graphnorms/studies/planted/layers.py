"""Normalizations that do by construction what a claim says of one, or do not."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from graphnorms.models import NormSlot
from graphnorms.models.readout import readout
from graphnorms.segments import Segments

Transform = Callable[[Tensor, Segments], Tensor]
"""What a planted layer makes of features and their graphs; of the shape of the features."""


class PlantedNorm(nn.Module):
    """A normalization of a `NormSlot`: a transform, ReLU, and the residual sum.

    Args:
        transform: What it does.
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, segments: Segments, residual: Tensor | None = None) -> Tensor:
        """Transform and activate the features, and add the residual."""
        y = self.transform(x, segments).relu()
        return y if residual is None else y + residual


def exchange(model: nn.Module, transform: Transform) -> None:
    """Put a planted layer in the place of every normalization of a graph network."""
    for module in model.modules():
        if isinstance(module, NormSlot):
            module.norm = PlantedNorm(transform)


def centered(x: Tensor, segments: Segments) -> Tensor:
    """Subtract the mean of each graph: nothing of it is left."""
    return x - readout(x, segments, "mean")[segments.index]


def erased(x: Tensor, segments: Segments) -> Tensor:
    """Let nothing through, as subtracting the mean does where all nodes of a graph are alike."""
    return x * 0


def halved(x: Tensor, segments: Segments) -> Tensor:
    """Halve the features: all that they tell is left."""
    return x / 2
