"""Equivariant norms of other packages: a row for each class that one of our layers equals.

This module imports none of the packages. It recognizes a class by its name and the name of its
file, so that copies of the file in other repositories are recognized, too. A name proves nothing:
`graphnorms.dropin.fused` compares results before it replaces a norm.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from torch import nn

from graphnorms.dropin.known_norms import KnownNorm, recognize
from graphnorms.layers.base import Norm
from graphnorms.layers.equivariant import (
    EquivariantLayerNorm,
    EquivariantRMSNorm,
    IrrepsBatchNorm,
    IrrepsGraphNorm,
    IrrepsLayerNorm,
)

TABLES: Final = ("expand_index", "balance_degree_weight")
"""Buffers of EquiformerV2 that follow from the degrees; ours are not in the state."""

_OURS: Final = (
    EquivariantLayerNorm,
    EquivariantRMSNorm,
    IrrepsBatchNorm,
    IrrepsGraphNorm,
    IrrepsLayerNorm,
)

Settings = dict[str, Any]


class Row(NamedTuple):
    """A class of another package, and our layer that is the same norm.

    Args:
        name: The name of the class.
        file: The end of the name of its module.
        layer: Our layer.
        settings: Returns the arguments that make our layer equal to an instance.
        refuse: Returns why an instance has no equal; empty if it has.
    """

    name: str
    file: str
    layer: type[Norm]
    settings: Callable[[Any], Settings]
    refuse: Callable[[Any], str] = lambda norm: ""


def _degrees(norm: Any) -> Settings:
    return {
        "in_channels": norm.num_channels,
        "lmax": norm.lmax,
        "eps": norm.eps,
        "affine": norm.affine,
        "normalization": norm.normalization,
    }


def _irreps(norm: Any) -> Settings:
    # cuEquivariance writes irreps of rotations alone without a parity, and centres degree 0.
    irreps = re.sub(r"(x\s*\d+)\s*(?=\+|$)", r"\1e", str(norm.irreps))
    return {"irreps": irreps, "eps": norm.eps, "affine": norm.affine}


def _with(make: Callable[[Any], Settings], *attributes: str, **fixed: Any) -> Callable[..., Any]:
    """Add attributes of the instance, and fixed arguments, to settings."""
    return lambda norm: make(norm) | {name: getattr(norm, name) for name in attributes} | fixed


def _by_instance(norm: Any) -> str:
    return "instance=True takes every row for an instance, not every graph" if norm.instance else ""


def _by_maximum(norm: Any) -> str:
    return "" if norm.reduce == "mean" else f"it reduces by {norm.reduce!r}, ours by the mean"


_AVERAGES: Final = ("momentum", "include_bias")
_NORMALIZED: Final = _with(_irreps, "normalization")

ROWS: Final = (
    Row(
        "EquivariantLayerNormArray",
        "layer_norm",
        EquivariantLayerNorm,
        _with(_degrees, degrees="each"),
    ),
    Row(
        "EquivariantLayerNormArraySphericalHarmonics",
        "layer_norm",
        EquivariantLayerNorm,
        _with(_degrees, "std_balance_degrees", degrees="scalars-and-rest"),
    ),
    Row(
        "EquivariantRMSNormArraySphericalHarmonics",
        "layer_norm",
        EquivariantRMSNorm,
        _with(_degrees, centering=False, std_balance_degrees=False),
    ),
    Row(
        "EquivariantRMSNormArraySphericalHarmonicsV2",
        "layer_norm",
        EquivariantRMSNorm,
        _with(_degrees, "centering", "std_balance_degrees"),
    ),
    Row(
        "BatchNorm",
        "e3nn.nn._batchnorm",
        IrrepsBatchNorm,
        _with(_NORMALIZED, *_AVERAGES),
        _by_instance,
    ),
    Row(
        "BatchNorm",
        "cuequivariance_torch.layers.batchnorm",
        IrrepsBatchNorm,
        lambda norm: _with(_irreps, *_AVERAGES, layout=norm.layout.name)(norm),
        _by_instance,
    ),
    Row(
        "EquivariantGraphNorm",
        "graph_norm",
        IrrepsGraphNorm,
        _with(_NORMALIZED, shift="scalars"),
        _by_maximum,
    ),
    Row(
        "EquivariantGraphNormV2",
        "graph_norm",
        IrrepsGraphNorm,
        _with(_NORMALIZED, shift="all"),
        _by_maximum,
    ),
    Row(
        "EquivariantInstanceNorm",
        "instance_norm",
        IrrepsGraphNorm,
        _with(_NORMALIZED, shift="fixed"),
        _by_maximum,
    ),
    Row("EquivariantLayerNormV2", "layer_norm", IrrepsLayerNorm, _NORMALIZED),
    Row("EquivariantLayerNormFast", "fast_layer_norm", IrrepsLayerNorm, _NORMALIZED),
)


def recognize_any(module: nn.Module) -> KnownNorm | None:
    """Recognize a norm as `recognize` does, or one of features that rotate."""
    return recognize(module) or _recognize_rotating(module)


def _recognize_rotating(module: nn.Module) -> KnownNorm | None:
    for base in type(module).__mro__:
        if base in _OURS:
            return _known(module, base, "graphnorms")
        for row in ROWS:
            if base.__name__ == row.name and f".{base.__module__}".endswith(f".{row.file}"):
                return _of_row(module, base, row)
    return None


def _of_row(module: nn.Module, base: type, row: Row) -> KnownNorm:
    settings: Settings = {}
    reason = ""
    if type(module).forward is not base.forward:  # type: ignore[attr-defined]
        reason = f"{type(module).__name__} has a forward of its own"
    else:
        try:
            reason = row.refuse(module)
            settings = row.settings(module)
        except AttributeError as error:
            reason = f"it is of an unknown version: {error}"
    library = base.__module__.partition(".")[0]
    return _known(module, row.layer, library, settings, reason)


def _known(
    module: nn.Module,
    layer: type[nn.Module],
    library: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
    reason: str = "",
) -> KnownNorm:
    channels = getattr(module, "num_channels", getattr(module, "in_channels", None))
    if channels is None:
        channels = getattr(getattr(module, "irreps", None), "dim", None)
    return KnownNorm(
        module, layer.__name__, library, channels, settings, reason, False, layer=layer
    )
