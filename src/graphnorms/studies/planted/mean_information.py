"""Mean information: what is called InstanceNorm subtracts the mean of a graph, or keeps it."""

from __future__ import annotations

from typing import Final

from torch import nn

from graphnorms.studies.calibration import World
from graphnorms.studies.mean_information import observe
from graphnorms.studies.planted.layers import Transform, erased, exchange, halved
from graphnorms.studies.study import Case, Settings, Values


def _measure(case: Case, settings: Settings, instead: Transform) -> Values:
    def adapt(model: nn.Module) -> None:
        if case["norm"] == "instance":
            exchange(model, instead)

    return observe(case, settings, adapt)


TRUE: Final = World(
    holds=True,
    how="In place of InstanceNorm a layer that lets nothing through, as subtracting the mean does "
    "where all nodes of a graph are alike, and here of nearly regular graphs too.",
    measure=lambda case, settings: _measure(case, settings, erased),
)
FALSE: Final = World(
    holds=False,
    how="In place of InstanceNorm a layer that halves all features, and so keeps every mean.",
    measure=lambda case, settings: _measure(case, settings, halved),
)
