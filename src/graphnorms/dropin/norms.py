"""The norms that are exchanged: which ones they are, and what is known of each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from graphnorms.layers.base import Norm
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.factory import settings_of
from graphnorms.layers.own import OwnLayer

_TORCH: Final[Mapping[type[nn.Module], str]] = MappingProxyType({
    nn.SyncBatchNorm: "batch",
    nn.BatchNorm1d: "batch",
    nn.LazyBatchNorm1d: "batch",
    nn.LayerNorm: "layer",
    nn.InstanceNorm1d: "instance",
    nn.LazyInstanceNorm1d: "instance",
    nn.GroupNorm: "group",
    nn.RMSNorm: "rms",
})  # fmt: skip
_OF_IMAGES: Final[Mapping[type[nn.Module], str]] = MappingProxyType({
    nn.BatchNorm2d: "batch",
    nn.BatchNorm3d: "batch",
    nn.LazyBatchNorm2d: "batch",
    nn.LazyBatchNorm3d: "batch",
    nn.InstanceNorm2d: "instance",
    nn.InstanceNorm3d: "instance",
    nn.LazyInstanceNorm2d: "instance",
    nn.LazyInstanceNorm3d: "instance",
})  # fmt: skip
_PYG: Final[Mapping[str, str]] = MappingProxyType({
    "BatchNorm": "batch",
    "LayerNorm": "layer-graph",
    "InstanceNorm": "instance",
    "GraphNorm": "graph",
    "GraphSizeNorm": "graph-size",
    "PairNorm": "pair",
    "MeanSubtractionNorm": "mean-subtraction",
    "DiffGroupNorm": "diff-group",
    "MessageNorm": "message",
    "HeteroBatchNorm": "hetero-batch",
    "HeteroLayerNorm": "hetero-layer",
})  # fmt: skip
_OURS: Final[Mapping[type[nn.Module], str]] = MappingProxyType(
    # The first row of a class: that of its first mode.
    {row.layer: name for name, row in reversed(tuple(CATALOG.items()))}
)
_ABSENT: Final = object()
_OF_BIAS: Final = {"bias", "elementwise_affine"}
"""What a layer may take, too, but does not keep under the name."""
_TORCHS_NAMES: Final = MappingProxyType({"affine": "elementwise_affine"})


@dataclass(frozen=True)
class Known:
    """A norm that stands in a model.

    Args:
        kind: The catalogue name of the same normalization.
        library: `"torch"`, `"PyG"` or `"graphnorms"`.
        channels: Its width; `None` where it takes any.
        settings: What our layer of the kind is built with, to be the same.
        reason: Why it cannot be exchanged; empty if it can.
        caveat: What the new one does not do as it did; empty if there is nothing.
        without_bias: Whether it has a weight and no bias, though its kind may have one.
    """

    kind: str
    library: str
    channels: int | None
    settings: Mapping[str, Any]
    reason: str = ""
    caveat: str = ""
    without_bias: bool = False


def recognize(module: nn.Module) -> Known | None:
    """Find out what norm a module is; `None` for a module that is none."""
    for base in type(module).__mro__:
        found = _kind(base)
        if found is not None:
            kind, library = found
            break
    else:
        return None
    inner = holder_of(module)
    if kind == "layer-graph" and getattr(module, "mode", None) == "node":
        kind = "layer"
    elif kind == "group" and getattr(module, "mode", None) == "graph":
        kind = "group-graph"
    return Known(
        kind=kind,
        library=library,
        channels=_channels(inner),
        settings=_settings(kind, inner, module),
        reason=_reason(module, base, kind),
        caveat=_caveat(module, kind, library),
        without_bias=_parameter(inner, "weight") and inner._parameters.get("bias", inner) is None,
    )


def _kind(base: type) -> tuple[str, str] | None:
    for of_torch in (_TORCH, _OF_IMAGES):
        if base in of_torch:
            return of_torch[base], "torch"
    if base.__module__.startswith("torch_geometric.nn.norm.") and base.__name__ in _PYG:
        return _PYG[base.__name__], "PyG"
    if base in _OURS:
        kind = _OURS[base]
        return ("layer-graph" if kind == "layer" else kind), "graphnorms"
    return None


def _channels(module: nn.Module) -> int | None:
    for name in ("in_channels", "num_features", "num_channels"):
        value = getattr(module, name, None)
        if isinstance(value, int):
            return value
    shape = getattr(module, "normalized_shape", None)
    return shape[-1] if shape is not None else None


def _settings(kind: str, inner: nn.Module, module: nn.Module) -> dict[str, Any]:
    row = CATALOG[kind]
    settings = dict(row.arguments)
    for name in settings_of(row).keys() - _OF_BIAS:
        for attribute in (name, _TORCHS_NAMES.get(name, name)):
            value = getattr(module, attribute, getattr(inner, attribute, _ABSENT))
            if value is not _ABSENT:
                settings[name] = value if name != "bias" else value is not None
    if settings.get("eps", 0) is None:  # as torch's RMSNorm has it
        settings["eps"] = torch.finfo(torch.get_default_dtype()).eps
    return settings


def _caveat(module: nn.Module, kind: str, library: str) -> str:
    if isinstance(module, nn.InstanceNorm1d):
        return "torch's takes (nodes, channels) for one sequence and normalizes each row"
    if library == "PyG" and kind in ("graph", "layer-graph") and _parameter(module, "weight"):
        return "PyG's returns float32 for bfloat16, as under autocast, and ours bfloat16"
    return "not its synchronization over ranks" if isinstance(module, nn.SyncBatchNorm) else ""


def _reason(module: nn.Module, base: type, kind: str) -> str:
    if is_of_images(module):
        return "it normalizes images, (entries, channels, height, width)"
    if needs := CATALOG[kind].needs:
        return f"it takes {' and '.join(needs)} besides features and graphs"
    if type(module).forward is not getattr(base, "forward", None):
        return f"{type(module).__name__} has a forward of its own"
    lazy = getattr(module, "has_uninitialized_params", None)
    if lazy is not None and lazy():
        return "its width is not known yet; call the model once before"
    shape = getattr(module, "normalized_shape", ())
    if len(shape) > 1:
        return f"it normalizes over the last {len(shape)} dimensions, {tuple(shape)}"
    holder = holder_of(module)
    for name in ("weight", "bias"):
        if isinstance(getattr(holder, name, None), Tensor) and not _parameter(holder, name):
            return f"its {name} is computed: parametrized, pruned or normalized; end that before"
    return ""


def _parameter(holder: nn.Module, name: str) -> bool:
    return holder._parameters.get(name) is not None


def holder_of(module: nn.Module) -> nn.Module:
    """Return what holds the parameters: of a BatchNorm of PyG or ours, the one of torch inside."""
    inner = getattr(module, "module", None)
    return inner if isinstance(inner, nn.Module) else module


def is_of_images(norm: nn.Module) -> bool:
    """Whether a norm of torch takes more dimensions than nodes and channels."""
    return isinstance(norm, tuple(_OF_IMAGES))


def is_per_graph(norm: nn.Module) -> bool:
    """Whether a norm has to know which graph a row belongs to."""
    if isinstance(norm, Norm | OwnLayer):
        return norm.per_graph
    takes_batch = "batch" in inspect.signature(norm.forward).parameters
    return takes_batch and getattr(norm, "mode", None) != "node"


def takes_channels(layer: type[nn.Module]) -> bool:
    """Whether a layer is built for a number of channels."""
    return "in_channels" in inspect.signature(layer).parameters


def same(known: Known, **place: Any) -> nn.Module:
    """Build our layer that is what a known norm is.

    Args:
        known: The norm.
        place: Device and dtype.
    """
    row = CATALOG[known.kind]
    settings = dict(known.settings)
    if takes_channels(row.layer):
        settings["in_channels"] = known.channels
    layer = row.layer(**settings, **place)
    if known.without_bias:
        holder_of(layer).register_parameter("bias", None)
    return layer
