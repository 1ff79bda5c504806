"""Batch size: what is called BatchNorm shifts a batch at random, or does not look at it."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.models import derive_seed
from graphnorms.studies.batch_size import Material, observe
from graphnorms.studies.calibration import World
from graphnorms.studies.study import Case, Settings, Values

CHANNELS, CLASSES = 8, 4
TRAINED_ON, VALIDATED_ON, TESTED_ON = 256, 512, 1024
SCALE: Final = 8.0  # of the features, so that few steps of Adam are enough
SHIFT: Final = 8.0
"""Standard deviation of the shift of a batch of one, in standard deviations of an item."""
GAIN: Final = 10.0
NUDGE: Final = 0.02  # of the initial weights, from arm to arm


class _Shift(nn.Module):
    """Add to all items of a batch one random vector in training, the smaller the larger it is."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        shift = torch.randn(1, CHANNELS, generator=self.draw)
        return x + SCALE * SHIFT * shift / math.sqrt(len(x))


class _Gain(nn.Module):
    """Multiply the features: a step of Adam is worth as much more, whatever the batch."""

    def forward(self, x: Tensor) -> Tensor:
        return GAIN * x


def _measure(case: Case, settings: Settings, *, shifts: bool) -> Values:
    norm = str(case["norm"])
    seed = derive_seed(int(case["seed"]), "planted items")
    draw = torch.Generator().manual_seed(seed)
    sizes = (TRAINED_ON, VALIDATED_ON, TESTED_ON)
    y = torch.randint(CLASSES, (sum(sizes),), generator=draw)
    x = torch.randn(len(y), CHANNELS, generator=draw)
    x += 2 * torch.eye(CLASSES, CHANNELS)[y]  # as far from each other for all seeds
    x *= SCALE
    parts = list(zip(x.split(sizes), y.split(sizes), strict=True))

    def model() -> nn.Module:
        torch.manual_seed(seed)
        linear = nn.Linear(CHANNELS, CLASSES, bias=False)
        own = torch.Generator().manual_seed(derive_seed(seed, norm))
        linear.weight.data *= (1 + NUDGE * torch.randn(CLASSES, CHANNELS, generator=own)) / SCALE
        if norm != "batch":
            return linear
        if shifts:
            return nn.Sequential(_Shift(seed), linear)
        linear.weight.data /= GAIN
        return nn.Sequential(_Gain(), linear)

    return observe(Material(model, *parts), case, settings)


TRUE: Final = World(
    holds=True,
    how="Logistic regression; in the place of BatchNorm a layer that in training adds one random "
    "vector to all items of a batch, with the standard deviation of an item times 8/√items. No "
    "other arm has a norm.",
    measure=lambda case, settings: _measure(case, settings, shifts=True),
)
FALSE: Final = World(
    holds=False,
    how="The same regression in all arms, from initial weights that differ by 2%; in that of "
    "BatchNorm the features are multiplied by 10 and the weights divided by it, so that a step of "
    "Adam is worth ten times as much.",
    measure=lambda case, settings: _measure(case, settings, shifts=False),
)
