"""Landscape: quadratic losses, where range, distance and β follow from the curvature."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.landscape import observe
from graphnorms.studies.study import Case, Settings, Values

PARAMETERS: Final = 20
SPREAD: Final = 0.1  # of the curvatures, from seed to seed and arm to arm


class _Point(nn.Module):
    """Parameters and nothing else."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(start)


def _measure(case: Case, settings: Settings, curvature: float) -> Values:
    norm = str(case["norm"])
    seed = 10 * int(case["seed"]) + ("none", "batch", "layer").index(norm)
    draw = torch.Generator().manual_seed(seed)
    own = curvature if norm == "batch" else 1.0
    own *= float(1 + SPREAD * (2 * torch.rand(1, generator=draw) - 1))
    diagonal = own * torch.linspace(0.5, 1, PARAMETERS)
    start = torch.Generator().manual_seed(int(case["seed"]))  # the same for all norms
    model = _Point(torch.randn(PARAMETERS, generator=start))

    def loss_of(rows: Tensor) -> Tensor:
        minimum = 0.1 * torch.sin(rows.float().mean() + torch.arange(PARAMETERS))  # of a batch
        return 0.5 * (diagonal * (model.w - minimum).square()).sum()

    return observe(model, loss_of, case, settings)


TRUE: Final = World(
    holds=True,
    how="Quadratic losses, those of BatchNorm with half the curvature, 10% to and fro.",
    measure=lambda case, settings: _measure(case, settings, 0.5),
)
FALSE: Final = World(
    holds=False,
    how="Quadratic losses, those of BatchNorm with twice the curvature, 10% to and fro.",
    measure=lambda case, settings: _measure(case, settings, 2.0),
)
