"""Placement: a parameter that is as near to its goal in one place, and further in the other."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.placement import MODELS, PLACES, observe
from graphnorms.studies.study import Case, Settings, Values

GOAL: Final = 0.03  # from 0; Adam moves by at most 0.001 a step
SPREAD: Final = 0.02  # of the goals, from case to case


def _measure(case: Case, settings: Settings, further: float) -> Values:
    norm, place = str(case["norm"]), str(case["place"])
    number = 2 * MODELS.index(str(case["model"])) + PLACES[norm].index(place)
    draw = torch.Generator().manual_seed(10 * int(case["seed"]) + number + 5 * (norm == "layer"))
    goal = GOAL * float(1 + SPREAD * torch.randn(1, generator=draw))
    if place == PLACES[norm][1]:
        goal *= further
    model = nn.Linear(1, 1)
    nn.init.zeros_(model.weight)

    def loss() -> Tensor:
        return (model.weight / goal - 1).square().sum() + 0.01

    return observe(model, loss, settings)


TRUE: Final = World(
    holds=True,
    how="One parameter and Adam; in the other place its goal is twice as far.",
    measure=lambda case, settings: _measure(case, settings, 2.0),
)
FALSE: Final = World(
    holds=False,
    how="The goals of both places are as far, 2% to and fro.",
    measure=lambda case, settings: _measure(case, settings, 1.0),
)
