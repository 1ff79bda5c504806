"""Depth: what is called a norm adds what the neighbours say at the start, or does nothing."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from graphnorms.kernels import aggregate
from graphnorms.models import GNN
from graphnorms.segments import Segments
from graphnorms.studies.calibration import World
from graphnorms.studies.depth import Nodes, observe
from graphnorms.studies.planted.layers import exchange, halved
from graphnorms.studies.study import Case, Settings, Values


def _reminded(model: GNN, nodes: Nodes, case: Case) -> None:
    if case["norm"] == "none":
        return
    draw = torch.Generator().manual_seed(int(case["seed"]))
    weights = torch.randn(nodes.x.shape[1], model.config.hidden, generator=draw)
    told = aggregate(nodes.x, nodes.adjacency, self_weight=1.0) @ weights / 10

    def add(x: Tensor, segments: Segments) -> Tensor:
        return x + told.to(x)

    exchange(model, add)


def _halved(model: GNN, nodes: Nodes, case: Case) -> None:
    if case["norm"] != "none":
        exchange(model, halved)


def _measure(case: Case, settings: Settings, *, holds: bool) -> Values:
    return observe(case, settings, _reminded if holds else _halved)


TRUE: Final = World(
    holds=True,
    how="In place of the norms a layer that adds a projection of the sums of the first features "
    "over neighbours, so that they are there at every depth.",
    measure=lambda case, settings: _measure(case, settings, holds=True),
)
FALSE: Final = World(
    holds=False,
    how="In place of the norms a layer that halves all features, and so smooths as none does.",
    measure=lambda case, settings: _measure(case, settings, holds=False),
)
