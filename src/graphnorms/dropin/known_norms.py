"""The norms of a model: their kinds and their places."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from torch import Tensor, nn

from graphnorms.layers.base import Norm
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.factory import make_norm, settings_of
from graphnorms.layers.own_norm import OwnLayer
from graphnorms.layers.spec import parse_spec

_TORCH: Final[Mapping[type[nn.Module], str]] = MappingProxyType(
    {
        nn.SyncBatchNorm: "batch",
        nn.BatchNorm1d: "batch",
        nn.LazyBatchNorm1d: "batch",
        nn.LayerNorm: "layer",
        nn.InstanceNorm1d: "instance",
        nn.LazyInstanceNorm1d: "instance",
        nn.GroupNorm: "group",
        nn.RMSNorm: "rms",
    }
)
_OF_IMAGES: Final[Mapping[type[nn.Module], str]] = MappingProxyType(
    {
        getattr(nn, f"{lazy}{kind}Norm{dimensions}d"): kind.lower()
        for lazy in ("", "Lazy")
        for kind in ("Batch", "Instance")
        for dimensions in (2, 3)
    }
)
_PYG: Final[Mapping[str, str]] = MappingProxyType(
    {
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
    }
)
_OURS: Final[Mapping[type[nn.Module], str]] = MappingProxyType(
    # The first row of each class, for its first mode.
    {row.layer: name for name, row in reversed(tuple(CATALOG.items()))}
)
_ABSENT: Final = object()
_OF_BIAS: Final = {"bias", "elementwise_affine"}
"""Arguments that a layer does not store as attributes of the same name."""
_TORCHS_NAMES: Final = MappingProxyType({"affine": "elementwise_affine"})


_OF_SEQUENCES: Final = (
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
)
_CALLED_NORM: Final = re.compile(r"Norm(\dd|V\d)?$")


class Path(NamedTuple):
    """A path to a module.

    Args:
        name: Its qualified name.
        keys: The parts of the name that are keys of a `ModuleDict`; these may be node types.
    """

    name: str = ""
    keys: tuple[str, ...] = ()

    def into(self, module: nn.Module, key: str) -> Path:
        """Return the path to a child of the module at its end."""
        keys = (*self.keys, key) if isinstance(module, nn.ModuleDict) else self.keys
        return Path(f"{self.name}.{key}" if self.name else key, keys)


@dataclass(frozen=True)
class Place:
    """A place of a norm in a model.

    Args:
        parent: The module that contains the norm.
        key: Its name in the parent.
        paths: The paths to it; several if the parent is used several times.
    """

    parent: nn.Module
    key: str
    paths: list[Path]

    @property
    def name(self) -> str:
        """Its qualified name along the first path."""
        return self.paths[0].name

    @property
    def module(self) -> nn.Module | None:
        """The module at this place."""
        return self.parent._modules[self.key]

    def put(self, module: nn.Module) -> None:
        """Put another module at this place."""
        # Not setattr, which containers do not accept for indices.
        self.parent._modules[self.key] = module


@dataclass(frozen=True)
class KnownNorm:
    """A norm of torch, PyG, graphnorms, or a package for features that rotate.

    Args:
        module: The norm.
        kind: The catalogue name of its normalization; the name of `layer` if that is given.
        library: `"torch"`, `"PyG"`, `"graphnorms"`, or the name of its package.
        channels: Its number of channels; `None` if it accepts any.
        settings: The arguments that make our layer of the kind equivalent.
        reason: Why it cannot be replaced; empty if it can.
        without_bias: Whether it has a weight but no bias, although its kind may have one.
        places: Its places in the model; several if it is used several times.
        layer: Our layer of the same kind, if it is not in the catalogue.
    """

    module: nn.Module
    kind: str
    library: str
    channels: int | None
    settings: Mapping[str, Any]
    reason: str
    without_bias: bool
    places: tuple[Place, ...] = ()
    layer: type[nn.Module] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Its qualified names in the model, in the order of its places."""
        return tuple(place.name for place in self.places)

    @property
    def name(self) -> str:
        """Its name at the first place."""
        return self.places[0].name


Recognizer = Callable[[nn.Module], KnownNorm | None]
"""Recognizes a norm; returns `None` for any other module."""


def find_norms(
    model: nn.Module, known_as: Recognizer | None = None
) -> tuple[list[KnownNorm], list[str]]:
    """List the norms inside a module in its order, each once.

    Args:
        model: The module.
        known_as: Recognizes the norms; `None` for `recognize`.

    Returns:
        The norms, and the names of modules that are named like norms but not known.
    """
    places: dict[tuple[int, str], Place] = {}
    found: dict[int, tuple[KnownNorm, list[Place]]] = {}
    strangers: list[tuple[str, str]] = []
    names: list[str] = []
    known_as = known_as or recognize
    for path, parent, key, child in _ways(model, known_as, Path(), (id(model),)):
        known = known_as(child)
        if known is None:
            if _CALLED_NORM.search(type(child).__name__):
                strangers.append((path.name, type(child).__name__))
            continue
        names.append(path.name)
        place = places.get((id(parent), key))
        if place is None:
            place = places[id(parent), key] = Place(parent, key, [])
            found.setdefault(id(child), (known, []))[1].append(place)
        place.paths.append(path)
    norms = [
        replace(known, places=tuple(there), reason=known.reason or _reason_of(there))
        for known, there in found.values()
    ]
    unknown = [
        f"{name} ({kind})"
        for name, kind in strangers
        if not any(inner.startswith(f"{name}.") for inner in names)
    ]
    return norms, unknown


def _ways(
    module: nn.Module, known_as: Recognizer, path: Path, above: tuple[int, ...]
) -> Iterator[tuple[Path, nn.Module, str, nn.Module]]:
    """Iterate over all inner modules outside of norms: path, parent, key, module."""
    for key, child in module._modules.items():
        if child is not None:
            way = path.into(module, key)
            yield way, module, key, child
            inside = isinstance(child, Norm) or known_as(child) is not None
            if id(child) not in above and not inside:
                yield from _ways(child, known_as, way, (*above, id(child)))


def _reason_of(places: list[Place]) -> str:
    for place in places:
        if isinstance(place.parent, _OF_SEQUENCES):
            kind = type(place.parent).__name__
            return f"{kind} takes sequences, and uses the weights of its norms itself"
    return ""


def recognize(module: nn.Module) -> KnownNorm | None:
    """Recognize a norm; return `None` for any other module."""
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
    return KnownNorm(
        module=module,
        kind=kind,
        library=library,
        channels=_channels(inner),
        settings=_settings(kind, inner, module),
        reason=_reason(module, base, kind),
        without_bias=has_parameter(inner, "weight")
        and inner._parameters.get("bias", inner) is None,
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
    return settings


def _reason(module: nn.Module, base: type, kind: str) -> str:
    if is_of_images(module):
        return "it normalizes images, (entries, channels, height, width)"
    if needs := CATALOG[kind].needs:
        return f"it needs {' and '.join(needs)} besides features and graphs"
    if type(module).forward is not getattr(base, "forward", None):
        return f"{type(module).__name__} has a forward of its own"
    lazy = getattr(module, "has_uninitialized_params", None)
    if lazy is not None and lazy():
        return "its number of channels is not known yet; call the model once before"
    shape = getattr(module, "normalized_shape", ())
    if len(shape) > 1:
        return f"it normalizes over the last {len(shape)} dimensions, {tuple(shape)}"
    holder = holder_of(module)
    for name in ("weight", "bias"):
        if isinstance(getattr(holder, name, None), Tensor) and not has_parameter(holder, name):
            return f"its {name} is computed (parametrized, pruned or normalized); remove that first"
    return ""


def has_parameter(holder: nn.Module, name: str) -> bool:
    """Whether a module has a parameter of this name, not a tensor computed from one."""
    return holder._parameters.get(name) is not None


def holder_of(module: nn.Module) -> nn.Module:
    """Return the module that holds the parameters: the inner one of PyG's and our BatchNorm."""
    inner = getattr(module, "module", None)
    return inner if isinstance(inner, nn.Module) else module


def is_of_images(norm: nn.Module) -> bool:
    """Whether a norm of torch is for images or volumes."""
    return isinstance(norm, tuple(_OF_IMAGES))


def is_per_graph(norm: nn.Module) -> bool:
    """Whether a norm needs the graph of every row."""
    if isinstance(norm, Norm | OwnLayer):
        return norm.per_graph
    takes_batch = "batch" in inspect.signature(norm.forward).parameters
    return takes_batch and getattr(norm, "mode", None) != "node"


def takes_channels(layer: type[nn.Module]) -> bool:
    """Whether the constructor of a layer takes `in_channels`."""
    return "in_channels" in inspect.signature(layer).parameters


def same(known: KnownNorm, **place: Any) -> nn.Module:
    """Build our equivalent of a norm.

    Args:
        known: The norm.
        place: Device and dtype.
    """
    settings = dict(known.settings)
    if known.layer is not None:
        return known.layer(**settings, **place)
    row = CATALOG[known.kind]
    if takes_channels(row.layer):
        settings["in_channels"] = known.channels
    if "types" in row.needs:
        settings["num_types"] = known.module.num_types
    layer = row.layer(**settings, **place)
    if known.without_bias:
        holder_of(layer).register_parameter("bias", None)
    return layer


def resolve_norm(norm: str | nn.Module | None, channels: int, **arguments: Any) -> nn.Module | None:
    """Build a norm from its name, as PyG's `normalization_resolver` does for its own.

    For models of PyG, which resolve strings among PyG's own classes only. A catalogue name, with
    arguments after a colon or as keywords, gives the layer of the catalogue: `"pair"`,
    `"pair:scale=2"`, `"layer"` (per node). The name of a class, `"PairNorm"` or `"batch_norm"`,
    gives our layer of that name with PyG's defaults: `"LayerNorm"` normalizes each graph. The
    number of channels is passed only to layers with such an argument, so that PairNorm does not
    take it as its scale. Anything but a string is returned unchanged.

    Args:
        norm: The name; or a module, or `None`.
        channels: Number of channels.
        arguments: Passed to the layer.

    Raises:
        ValueError: The name is unknown, or the layer refuses its arguments.
        TypeError: The layer does not accept one of the arguments.
    """
    if not isinstance(norm, str):
        return norm
    name, given = parse_spec(norm)
    if name not in CATALOG:
        for row in CATALOG.values():
            if _plain(row.layer.__name__) == _plain(name):
                arguments = {**arguments, **given}
                takes = takes_channels(row.layer)
                return row.layer(channels, **arguments) if takes else row.layer(**arguments)
    return make_norm(norm, channels, **arguments)


def _plain(name: str) -> str:
    return re.sub("[-_ ]", "", name.lower())
