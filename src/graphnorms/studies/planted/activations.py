"""Activations: units that are shifted and bent in training, less with what is called BatchNorm."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.activations import NORMS, TITLES, observe
from graphnorms.studies.calibration import World
from graphnorms.studies.study import Case, Settings, Values

ROWS, CHANNELS = 200, 8
SHIFT, BEND = 5.0, 1.0  # where training leads without a norm
LESS: Final = 0.1  # of the way
SPREAD: Final = 0.1  # of the goals of units
STEPS: Final = 60


class _Bent(nn.Module):
    """Units whose input is $z + a + b z^2$."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.zeros(CHANNELS))
        self.b = nn.Parameter(torch.zeros(CHANNELS))

    def forward(self, z: Tensor) -> Tensor:
        """Shift and bend, `(rows, channels)`."""
        return z + self.a + self.b * z.square()


def _measure(case: Case, settings: Settings, bent: float) -> Values:
    model_name, norm = str(case["model"]), str(case["norm"])
    number = 4 * int(case["seed"]) + 2 * tuple(TITLES).index(model_name)
    draw = torch.Generator().manual_seed(number + NORMS[model_name].index(norm))
    z = torch.randn(ROWS, CHANNELS, generator=draw)
    spread = 1 + SPREAD * torch.randn(2, CHANNELS, generator=draw)
    shift, bend = SHIFT * spread[0], BEND * spread[1]
    if norm == "batch":
        shift, bend = LESS * shift, bent * bend
    model = _Bent()

    def loss(rows: Tensor) -> Tensor:
        return (model.a - shift).square().sum() + (model.b - bend).square().sum()

    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    batches = [torch.arange(ROWS)] * STEPS
    return observe(loss, optimizer, batches, lambda: {"units": model(z)}, settings)


TRUE: Final = World(
    holds=True,
    how="Units that training shifts, and bends by their squares; with BatchNorm a tenth as far.",
    measure=lambda case, settings: _measure(case, settings, LESS),
)
FALSE: Final = World(
    holds=False,
    how="Units that training shifts, with BatchNorm a tenth as far, and bends as far with it as "
    "without: mean and width stand still, the shape does not.",
    measure=lambda case, settings: _measure(case, settings, 1.0),
)
