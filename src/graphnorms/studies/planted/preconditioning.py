"""Preconditioning: features whose means over graphs make the loss ill-conditioned, or are 0."""

from __future__ import annotations

from typing import Final

import torch

from graphnorms.studies.calibration import World
from graphnorms.studies.planted.layers import centered
from graphnorms.studies.preconditioning import observe
from graphnorms.studies.regular import regular_graphs
from graphnorms.studies.study import Case, Settings, Values

CHANNELS: Final = 5
OFFSET: Final = 1.5  # standard deviation of a graph's mean, in those of its nodes


def _measure(case: Case, settings: Settings, offset: float) -> Values:
    seed = 100 * int(case["seed"]) + int(case["part"])
    given = regular_graphs(24, "constant", seed)
    batch = given.batch(torch.arange(len(given)))
    draw = torch.Generator().manual_seed(seed)
    nodes = torch.randn(len(batch.x), CHANNELS, generator=draw, dtype=torch.float64)
    of_graph = offset * torch.randn(len(given), 1, generator=draw, dtype=torch.float64)
    x = centered(nodes, batch.segments) + of_graph[batch.segments.index]
    return observe(batch, x, case)


TRUE: Final = World(
    holds=True,
    how="Regular graphs whose features have the same large mean over a graph in every channel, "
    "another one in each graph: one eigenvalue of the loss, which QN removes, dominates.",
    measure=lambda case, settings: _measure(case, settings, OFFSET),
)
FALSE: Final = World(
    holds=False,
    how="Regular graphs whose features have the mean 0 over each graph: QN and Q give the same "
    "loss.",
    measure=lambda case, settings: _measure(case, settings, 0.0),
)
