"""Alpha: what is called a full shift lets nothing through, or all that the learned one does."""

from __future__ import annotations

from functools import partial
from typing import Final

from torch import Tensor

from graphnorms.models import GNN
from graphnorms.segments import Segments
from graphnorms.studies.alpha import observe
from graphnorms.studies.calibration import World
from graphnorms.studies.planted.layers import Transform, erased, exchange
from graphnorms.studies.study import Case, Settings, Values


def _standardized(x: Tensor, segments: Segments, eps: float) -> Tensor:
    """Standardize over all graphs at once: how their means differ is left."""
    return (x - x.mean(0)) / (x.var(0) + eps).sqrt()


KEPT: Final = partial(_standardized, eps=1e-5)
ALSO_KEPT: Final = partial(_standardized, eps=1e-3)


def _measure(case: Case, settings: Settings, full: Transform) -> Values:
    def adapt(model: GNN) -> None:
        exchange(model, full if case["shift"] == "full" else KEPT)

    return observe(case, settings, adapt)


TRUE: Final = World(
    holds=True,
    how="In place of the learned shift a layer that standardizes over all graphs at once, and so "
    "keeps how their means differ; in place of the full one a layer that lets nothing through.",
    measure=lambda case, settings: _measure(case, settings, erased),
)
FALSE: Final = World(
    holds=False,
    how="In place of either shift a layer that standardizes over all graphs at once, and so keeps "
    "how their means differ; the two have another ε.",
    measure=lambda case, settings: _measure(case, settings, ALSO_KEPT),
)
