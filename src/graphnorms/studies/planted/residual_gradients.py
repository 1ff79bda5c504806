"""Residual gradients: a residual sum whose result is divided by the root of its depth, or not."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.residual_gradients import observe
from graphnorms.studies.study import Case, Settings, Values

CHANNELS: Final = 64


class _Sum(nn.Module):
    """A sum of Linears of one input, times a gain."""

    def __init__(self, depth: int, gain: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(CHANNELS, CHANNELS) for _ in range(depth))
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * torch.stack([layer(x) for layer in self.layers]).sum(0)


def _measure(case: Case, settings: Settings, *, divided: bool) -> Values:
    """The gradient of each Linear is the gain times a number that the seed draws."""
    depth, pre = int(case["depth"]), case["place"] == "pre-LN"
    draw = torch.Generator().manual_seed(1000 * int(case["seed"]) + 2 * depth + pre)
    model = _Sum(depth, depth**-0.5 if divided and pre else 1.0)
    x, target = torch.randn(2, CHANNELS, generator=draw)
    names = [f"layers.{layer}.weight" for layer in range(depth)]
    found = observe(model, lambda: target @ model(x) / CHANNELS, names)
    return found | {"text": "none"}


TRUE: Final = World(
    holds=True,
    how="A sum of Linears, whose gradients differ by the draw of input and target alone; with "
    "pre-LN it is divided by the root of the depth.",
    measure=lambda case, settings: _measure(case, settings, divided=True),
)
FALSE: Final = World(
    holds=False,
    how="The same sum, divided by nothing in either placement.",
    measure=lambda case, settings: _measure(case, settings, divided=False),
)
