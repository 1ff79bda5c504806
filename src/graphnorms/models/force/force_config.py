"""The architecture of a model of energies and forces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from graphnorms.errors import is_number, unknown_name
from graphnorms.layers.factory import lookup
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.layers.spec import parse_spec
from graphnorms.models.norm_slot import check_sizes

FORCE_MODELS: Final = ("painn", "equivariant")


@dataclass(frozen=True, kw_only=True)
class ForceModelConfig:
    """The architecture of a model of energies and forces, apart from its normalization.

    Args:
        name: One of `FORCE_MODELS`: `"painn"` (scalars and vectors) or `"equivariant"` (spherical
            harmonics to degree 2).
        layers: Number of blocks.
        hidden: Channels of every component.
        cutoff: The distance in Å at which an atom stops to act on another.
        radial: Number of radial functions of a distance.
        edge_norm: The normalization of the edges as text, inside the network of the radial
            functions; `"none"` for none.
        norm_eps: ε by the catalogue name of a normalization; others, and those with `eps` in their
            text, use the default of their layer.
        head: `"graph"`: one energy per graph; there is no other.

    Raises:
        ValueError: A value is unknown or out of range.
    """

    name: str
    layers: int = 2
    hidden: int = 64
    cutoff: float = 5.0
    radial: int = 8
    edge_norm: str = "none"
    norm_eps: Mapping[str, float] = field(default_factory=dict, hash=False)
    head: str = "graph"

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("model", self.name, FORCE_MODELS),
            ("head", self.head, ("graph",)),
        ):
            if given not in known:
                raise unknown_name(kind, given, known)
        check_sizes(layers=self.layers, hidden=self.hidden, radial=self.radial)
        if not (is_number(self.cutoff) and 0 < self.cutoff < math.inf):
            raise ValueError(f"cutoff is {self.cutoff}, expected a positive distance in Å")
        for norm in (self.edge_norm, *self.norm_eps):
            lookup(norm)

    def eps_of(self, norm: str | OwnNorm) -> float | None:
        """Return ε of a normalization; None for the default of its layer."""
        return None if isinstance(norm, OwnNorm) else self.norm_eps.get(parse_spec(norm)[0])

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data; `ForceModelConfig(**data)` reads it back."""
        return asdict(self)
