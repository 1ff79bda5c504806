"""Initialization: a loss that feels the length of its weights, or that only when rates do not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.initialization import observe
from graphnorms.studies.study import Case, Settings, Values
from graphnorms.studies.sweep import DECIDING, Task

CHANNELS: Final = 10
ANGLE: Final = 45.0  # of the initial weights to their goal, degrees
NARROW: Final = 0.5  # how far the logarithm of the length may be off without a norm
NOISE: Final = 0.02  # of the goals, from step to step
STEPS: Final = 60
HEIGHT: Final = {"none": 1.0, "batch": 100.0}  # so that the rates suit gains of 1 and of 10


def _measure(case: Case, settings: Settings, *, knows: bool) -> Values:
    norm, seed = str(case["norm"]), int(case["seed"])
    draw = torch.Generator().manual_seed(seed)
    goal, across = torch.linalg.qr(torch.randn(CHANNELS, 2, generator=draw))[0].T
    angle = math.radians(ANGLE)
    start = math.cos(angle) * goal + math.sin(angle) * across

    def make(gain: float) -> Task:
        model = nn.Linear(CHANNELS, 1, bias=False)
        model.weight.data = gain * start.unsqueeze(0)
        own = torch.Generator().manual_seed(2 * seed + DECIDING.index(norm))
        usual = gain if knows else 1.0

        def losses() -> Iterator[Tensor]:
            for _ in range(STEPS):
                w = model.weight[0]
                noise = NOISE * torch.randn(CHANNELS, generator=own)
                reached = w @ (goal + noise) / w.norm()
                if norm == "none":
                    off = (w.norm() / usual).log() / NARROW
                    reached = reached * torch.exp(-off.square() / 2)
                yield HEIGHT[norm] * (1 - reached)

        return Task(model, losses(), HEIGHT[norm], [model.weight])

    return observe(make, case, settings)


TRUE: Final = World(
    holds=True,
    how="A loss of the angle between weights and a goal; without a norm the angle counts the less "
    "the further their length is from 1.",
    measure=lambda case, settings: _measure(case, settings, knows=False),
)
FALSE: Final = World(
    holds=False,
    how="The same, but without a norm it is the initial length that counts: where rates are in "
    "proportion to it, all gains are alike there too.",
    measure=lambda case, settings: _measure(case, settings, knows=True),
)
