"""Learning rate: a quadratic loss, and one of the direction of the weights alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.learning_rate import observe
from graphnorms.studies.study import Case, Settings, Values
from graphnorms.studies.sweep import DECIDING, TITLES, Task

CHANNELS: Final = 20
FLAT: Final = 0.05  # the largest curvature but one, which is 1
SPREAD: Final = 0.1  # of the curvatures, from case to case
STEPS: Final = 60


def _measure(case: Case, settings: Settings, easier: float) -> Values:
    """Descend along w'Aw; what is called BatchNorm divides by w'w, and has a smaller A."""
    norm, seed = str(case["norm"]), int(case["seed"])
    number = 4 * seed + 2 * tuple(TITLES).index(str(case["model"])) + DECIDING.index(norm)
    own = 1 + SPREAD * (2 * torch.rand(1, generator=torch.Generator().manual_seed(number)) - 1)
    curvature = torch.cat([torch.ones(1), torch.linspace(0, FLAT, CHANNELS - 1)]) * own
    if norm == "batch":
        curvature /= easier
    start = torch.randn(1, CHANNELS, generator=torch.Generator().manual_seed(seed))

    def make() -> Task:
        model = nn.Linear(CHANNELS, 1, bias=False)
        model.weight.data = start / start.norm()

        def losses() -> Iterator[Tensor]:
            for _ in range(STEPS):
                square = model.weight.square()
                height = (curvature * square).sum() / 2
                yield height / square.sum() if norm == "batch" else height

        return Task(model, losses(), float(curvature.mean() / 2), [model.weight])

    return observe(make, case, settings)


TRUE: Final = World(
    holds=True,
    how="A quadratic loss of weights of length 1; that of BatchNorm sees their direction alone, "
    "and has an eighth of the curvature.",
    measure=lambda case, settings: _measure(case, settings, 8.0),
)
FALSE: Final = World(
    holds=False,
    how="A quadratic loss of weights of length 1; that of BatchNorm is the same there and does not "
    "feel their length, so that large rates are allowed by construction, and by nothing else.",
    measure=lambda case, settings: _measure(case, settings, 1.0),
)
