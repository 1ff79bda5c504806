"""Which norms a model of energies and forces can have, and what the names mean in it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from graphnorms.errors import one_line
from graphnorms.layers import AdaNorm, Granola, PowerNorm
from graphnorms.layers.equivariant import (
    EquivariantLayerNorm,
    EquivariantRMSNorm,
    IrrepsBatchNorm,
    IrrepsGraphNorm,
)
from graphnorms.layers.equivariant.irreps_norm import IrrepsNorm
from graphnorms.layers.factory import lookup
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.layers.spec import parse_spec
from graphnorms.models.force.harmonics import spherical_harmonics
from graphnorms.models.norm_slot import NormSlot
from graphnorms.segments import Segments

_NO_FORCE: Final[Mapping[type, str]] = MappingProxyType(
    {
        AdaNorm: "holds its gain for a constant, so that a force would not be the gradient of the "
        "energy",
        PowerNorm: "has a backward that is no derivative, so that a force would not be the "
        "gradient of the energy",
        Granola: "draws random numbers, so that the energy is no function of the positions",
    }
)


def check_force_norm(norm: str | OwnNorm) -> None:
    """Refuse a norm of atoms with which the force is no gradient of a continuous energy.

    Raises:
        ValueError: It is one, or unknown.
    """
    if isinstance(norm, OwnNorm):
        return
    row = lookup(norm)
    if row.layer in _NO_FORCE:
        raise ValueError(f"the norm {norm!r} {_NO_FORCE[row.layer]}; try 'layer' or 'rms'")
    if {"adjacency", "factors"}.intersection((*row.needs, *row.takes)):
        raise ValueError(
            f"the norm {norm!r} depends on which atoms are neighbours, which changes with a jump "
            "at the cutoff; try 'layer' or 'rms'"
        )


def check_edge_norm(slot: NormSlot, norm: str) -> None:
    """Refuse a norm of edges whose statistics span edges, as their number jumps at the cutoff.

    Raises:
        ValueError: It is one.
    """
    if slot.norm.statistics_of or slot.norm.per_graph:
        raise ValueError(
            f"edge_norm is {norm!r}, whose statistics span edges, and their number jumps where one "
            "reaches the cutoff; choose none, layer or rms"
        )


class OfDegrees(nn.Module):
    """A norm of irreps for features `(nodes, (lmax + 1)², channels)`.

    Args:
        layer: `IrrepsBatchNorm` or `IrrepsGraphNorm`.
        channels: Number of channels.
        lmax: The highest degree; odd ones change sign under reflections.
        arguments: Passed to the layer.
    """

    def __init__(self, layer: type[IrrepsNorm], channels: int, lmax: int, **arguments: Any) -> None:
        super().__init__()
        irreps = " + ".join(f"{channels}x{degree}{'eo'[degree % 2]}" for degree in range(lmax + 1))
        self.norm = layer(irreps, layout="ir_mul", **arguments)

    def reset_parameters(self) -> None:
        """Reset the layer."""
        self.norm.reset_parameters()

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`; the arguments are those of `Norm.forward`."""
        flat = None if residual is None else residual.flatten(1)
        y: Tensor = self.norm(x.flatten(1), batch, batch_size, residual=flat, mask=mask)
        return y.view(x.shape)


EQUIVARIANT_NORMS: Final[Mapping[str, Callable[..., nn.Module] | None]] = MappingProxyType(
    {
        "none": None,
        "layer": EquivariantLayerNorm,
        "rms": EquivariantRMSNorm,
        "graph": functools.partial(OfDegrees, IrrepsGraphNorm),
        "instance": functools.partial(OfDegrees, IrrepsGraphNorm, shift="fixed"),
        "batch": functools.partial(OfDegrees, IrrepsBatchNorm),
    }
)
"""The counterparts of norms for features that rotate, by the name in the catalogue; the first two
arguments are the channels and the highest degree."""


def make_equivariant_norm(
    norm: str | OwnNorm, channels: int, lmax: int, *, eps: float | None = None
) -> nn.Module | None:
    """Build the counterpart of a norm for features `(nodes, (lmax + 1)², channels)`.

    Args:
        norm: A name of `EQUIVARIANT_NORMS`, arguments of the counterpart behind a colon as in
            `"layer:degrees=scalars-and-rest"`; or a user-defined one, which gets such features.
        channels: Number of channels.
        lmax: The highest degree.
        eps: Its ε; `None` for the default of the layer.

    Returns:
        The layer, called as `layer(x, segments)`; None for `"none"`.

    Raises:
        ValueError: The norm has no counterpart, refuses its arguments, or does not commute with
            rotations.
    """
    if isinstance(norm, OwnNorm):
        layer = norm.layer(channels)
        _check_rotations(layer, norm.name, channels, lmax)
        return layer
    name, arguments = parse_spec(norm)
    lookup(name)
    if name not in EQUIVARIANT_NORMS:
        raise ValueError(
            f"the norm {norm!r} does not commute with rotations, so the equivariant model cannot "
            f"have it; expected one of {', '.join(EQUIVARIANT_NORMS)}"
        )
    make = EQUIVARIANT_NORMS[name]
    if make is None:
        return None
    try:
        return make(channels, lmax, **({} if eps is None else {"eps": eps}), **arguments)
    except TypeError as error:
        raise ValueError(f"the norm {norm!r}: {one_line(error)}") from None


def _check_rotations(layer: nn.Module, name: str, channels: int, lmax: int) -> None:
    """Refuse a user-defined layer that gives rotated features another result."""
    draw = torch.Generator().manual_seed(0)
    components = (lmax + 1) ** 2
    unit, x = (torch.randn(shape, generator=draw) for shape in ((40, 3), (6, components, channels)))
    unit = unit / unit.norm(dim=1, keepdim=True)
    turned = unit[:, [2, 0, 1]]  # by 120° around (1, 1, 1)
    harmonics = [spherical_harmonics(each)[:, :components] for each in (unit, turned)]
    rotation = torch.linalg.lstsq(*harmonics).solution.T
    segments = Segments.from_counts(torch.tensor([4, 2]))
    try:
        with torch.no_grad():
            y = layer(rotation @ x, segments)
            off = float((y - rotation @ layer(x, segments)).abs().max())
    except Exception as error:  # user code may raise anything
        raise ValueError(
            f"the norm {name}, with features (6, {components}, {channels}), raised "
            f"{one_line(error)}"
        ) from error
    if not off < 1e-3 * max(1.0, float(y.abs().max())):
        raise ValueError(
            f"the norm {name} does not commute with rotations: the result of rotated features is "
            f"off by {off:.2g} from the rotated result, expected 0"
        )
