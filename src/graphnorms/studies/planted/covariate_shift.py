"""Covariate shift: two layers of which one feels the other, less with what is called BatchNorm."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.covariate_shift import ARMS, observe
from graphnorms.studies.study import Case, Settings, Values

CHANNELS: Final = 20
FELT: Final = 0.3  # how much of the layer below is in the gradient of the one above
SPREAD: Final = 0.05  # of that, from case to case


def _measure(case: Case, settings: Settings, less: float) -> Values:
    norm = str(case["norm"])
    draw = torch.Generator().manual_seed(len(ARMS) * int(case["seed"]) + ARMS.index(norm))
    felt = FELT * float(1 + SPREAD * (2 * torch.rand(1, generator=draw) - 1))
    if norm == "batch":
        felt *= less
    model = nn.Sequential(nn.Linear(CHANNELS, 1, bias=False), nn.Linear(CHANNELS, 1, bias=False))
    below, above = model.parameters()
    start = torch.Generator().manual_seed(int(case["seed"]))  # the same for all norms
    for parameter in (below, above):
        parameter.data = torch.randn(parameter.shape, generator=start)

    def loss_of(rows: Tensor) -> Tensor:
        goal = torch.sin(rows.float().mean() + torch.arange(CHANNELS))  # another for each batch
        alone = (below - goal).square().sum() + (above - goal).square().sum()
        return alone / 2 + felt * (below * above).sum()

    return observe(model, loss_of, ["0", "1"], case, settings)


TRUE: Final = World(
    holds=True,
    how="Two layers with a quadratic loss each, and a product of both in it, which with BatchNorm "
    "is half as large.",
    measure=lambda case, settings: _measure(case, settings, 0.5),
)
FALSE: Final = World(
    holds=False,
    how="Two layers with a quadratic loss each, and a product of both in it, as large with "
    "BatchNorm as without, 5% give or take.",
    measure=lambda case, settings: _measure(case, settings, 1.0),
)
