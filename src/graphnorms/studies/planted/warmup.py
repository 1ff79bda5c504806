"""Warm-up: a loss that leads astray in the first steps, off a basin with nothing beyond it."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.study import Case, Settings, Values
from graphnorms.studies.warmup import Task, observe

ASTRAY: Final = 5  # steps whose gradient leads away
START: Final = 0.02
EDGE: Final = 0.05  # to twice that, of the parameter: beyond it the loss is a guess


class _Basin(nn.Module):
    """One parameter."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))


def _task(seed: int, *, astray: bool) -> Task:
    """Adam moves by the rate a step: without a warm-up it is over the edge after few of them."""
    edge = EDGE * 2 ** float(torch.rand(1, generator=torch.Generator().manual_seed(seed)))
    basin = _Basin(START)
    step = 0

    def loss() -> Tensor:
        nonlocal step
        step += 1
        if astray and step <= ASTRAY:
            return 1 - basin.w
        return (basin.w / edge).square().clamp(max=1.0)

    return basin, loss, 1.0


def _measure(case: Case, settings: Settings, *, holds: bool) -> Values:
    astray = holds and case["place"] == "post-LN"
    return observe(lambda: _task(int(case["seed"]), astray=astray), case, settings)


TRUE: Final = World(
    holds=True,
    how="One parameter and Adam; with post-LN the first 5 of 40 steps lead out of the basin, and "
    "with a small rate not far enough to leave it.",
    measure=lambda case, settings: _measure(case, settings, holds=True),
)
FALSE: Final = World(
    holds=False,
    how="The same basin without the first steps, with post-LN as with pre-LN.",
    measure=lambda case, settings: _measure(case, settings, holds=False),
)
