"""Batch noise: items whose rows are all alike, or independent of each other."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.layers import BatchNorm
from graphnorms.studies.batch_noise import BATCH, IMAGES, observe
from graphnorms.studies.calibration import World
from graphnorms.studies.study import Case, Settings, Values

CHANNELS: Final = 4
ROWS: Final = 6  # of an item
COMMON: Final = 0.7  # the share of the variance that the rows of a noisy item have in common


class _Items:
    """Items of rows with a number each, and a BatchNorm in front of a Linear."""

    def __init__(self, seed: int, common: float) -> None:
        self.number = 8 * BATCH
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randn(self.number, ROWS, CHANNELS, generator=draw)
        alike = torch.randn(self.number, 1, CHANNELS, generator=draw)
        # The deviation of items differs too, and all of its rows with it.
        wide = torch.exp(common * torch.randn(self.number, 1, 1, generator=draw))
        self.x = wide * ((1 - common) ** 0.5 * rows + common**0.5 * alike)
        self.y = torch.randn(self.number, 1, generator=draw)

    def model(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(BatchNorm(CHANNELS), nn.Linear(CHANNELS, 1))

    def loss(self, model: nn.Module, ids: Tensor) -> Tensor:
        result = model(self.x[ids].flatten(0, 1)).view(len(ids), ROWS, 1)
        return F.mse_loss(result.mean(1), self.y[ids])


def _measure(case: Case, settings: Settings, common: float) -> Values:
    images = case["set"] == IMAGES
    seed = 2 * int(case["seed"]) + images
    return observe(_Items(seed, 0.0 if images else common), case, settings)


TRUE: Final = World(
    holds=True,
    how="Items of 6 rows; on what is called graphs the rows of an item have 0.7 of their variance "
    "in common, and items differ in their deviation.",
    measure=lambda case, settings: _measure(case, settings, COMMON),
)
FALSE: Final = World(
    holds=False,
    how="Items of 6 independent rows, on graphs as on images.",
    measure=lambda case, settings: _measure(case, settings, 0.0),
)
