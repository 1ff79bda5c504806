"""Where the norms of a model stand."""

from __future__ import annotations

import contextlib
import fnmatch
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from torch import nn

from graphnorms.dropin.norms import Known, recognize

Where = str | Callable[[str, nn.Module], bool]
"""Which norms: a pattern of their names, or a function of name and module."""

_OF_SEQUENCES: Final = (
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
)


_CALLED_NORM: Final = re.compile(r"Norm(\dd)?$")


@dataclass(frozen=True)
class Slot:
    """One place in which a norm stands.

    Args:
        name: Its qualified name.
        parent: The module that it stands in.
        key: Its name there.
    """

    name: str
    parent: nn.Module
    key: str

    def put(self, module: nn.Module) -> None:
        """Put another module there."""
        # Not setattr, which a container of modules does not take for its numbers.
        self.parent._modules[self.key] = module

    @property
    def module(self) -> nn.Module | None:
        """What stands there."""
        return self.parent._modules[self.key]


class Path(NamedTuple):
    """One way to a module.

    Args:
        name: Its qualified name.
        keys: Those parts of the name that are keys of containers, as of one by node type.
    """

    name: str = ""
    keys: tuple[str, ...] = ()

    def into(self, module: nn.Module, key: str) -> Path:
        """Return the way on from a module to one of its children."""
        keys = (*self.keys, key) if isinstance(module, nn.ModuleDict) else self.keys
        return Path(f"{self.name}.{key}" if self.name else key, keys)


@dataclass(frozen=True)
class Standing:
    """A norm, and all places in which it stands.

    Args:
        module: The norm.
        known: What is known of it.
        slots: The places; more than one where a model uses the same norm several times.
        reason: Why it cannot be exchanged; empty if it can.
    """

    module: nn.Module
    known: Known
    slots: tuple[Slot, ...]
    reason: str

    @property
    def names(self) -> tuple[str, ...]:
        """Its names, that of the first place first."""
        return tuple(slot.name for slot in self.slots)

    @property
    def name(self) -> str:
        """Its name in the first place."""
        return self.slots[0].name


def check_module(model: object) -> None:
    """Refuse what is no module."""
    if isinstance(model, type):
        raise ValueError(f"model is the class {model.__name__}, expected a module made of it")
    if not isinstance(model, nn.Module):
        raise ValueError(f"model has type {type(model).__name__}, expected a module of torch")


def find_unknown(holder: nn.Module) -> list[str]:
    """List the names of modules that are called norms, and are none of those known."""
    unknown: list[str] = []

    def walk(module: nn.Module, path: Path) -> None:
        for key, child in module._modules.items():
            if child is None or recognize(child) is not None:
                continue
            way = path.into(module, key)
            if _CALLED_NORM.search(type(child).__name__) and not find_norms(child):
                unknown.append(f"{way.name} ({type(child).__name__})")
            walk(child, way)

    walk(holder, Path())
    return unknown


def find_norms(holder: nn.Module) -> list[Standing]:
    """List the norms inside a module, in its order, each once."""
    places: dict[int, list[Slot]] = {}
    found: dict[int, tuple[nn.Module, Known]] = {}
    for slot in _slots(holder, "", set()):
        module = slot.module
        known = None if module is None else recognize(module)
        if module is not None and known is not None:
            places.setdefault(id(module), []).append(slot)
            found[id(module)] = (module, known)
    return [
        Standing(module, known, tuple(places[key]), known.reason or _reason(places[key]))
        for key, (module, known) in found.items()
    ]


def paths_to(holder: nn.Module) -> dict[int, list[Path]]:
    """List all ways from a module to itself and to every one inside, by its id."""
    found: dict[int, list[Path]] = {}

    def walk(module: nn.Module, path: Path, above: tuple[int, ...]) -> None:
        found.setdefault(id(module), []).append(path)
        for key, child in module._modules.items():
            if child is not None and id(child) not in above:
                walk(child, path.into(module, key), (*above, id(child)))

    walk(holder, Path(), (id(holder),))
    return found


def _slots(module: nn.Module, prefix: str, seen: set[int]) -> Iterator[Slot]:
    """Go through all children, but not into norms, and into no module twice."""
    if id(module) in seen:
        return
    seen.add(id(module))
    for key, child in module._modules.items():
        if child is None:
            continue
        yield Slot(f"{prefix}{key}", module, key)
        if recognize(child) is None:
            yield from _slots(child, f"{prefix}{key}.", seen)


def _reason(slots: list[Slot]) -> str:
    for slot in slots:
        if isinstance(slot.parent, _OF_SEQUENCES):
            kind = type(slot.parent).__name__
            return f"{kind} works on (graphs, positions, channels), and uses its weights itself"
    return ""


def check_function(name: str, function: object, counts: tuple[int, ...], expected: str) -> None:
    """Refuse what cannot be called with one of so many arguments.

    Args:
        name: What it was given as.
        function: What was given.
        counts: How many arguments it may be called with.
        expected: What it should have been, in words.
    """
    if isinstance(function, type):
        raise ValueError(f"{name} is the class {function.__name__}, expected {expected}")
    if not callable(function) or isinstance(function, nn.Module):
        raise ValueError(f"{name} has type {type(function).__name__}, expected {expected}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # as of those written in C, which do not say
        return
    for count in counts:
        with contextlib.suppress(TypeError):
            signature.bind(*range(count))
            return
    raise ValueError(
        f"{name} is a function of {len(signature.parameters)} arguments, expected {expected}"
    )


def selection(where: Where | None, norms: list[Standing]) -> Callable[[Standing], bool]:
    """Return which norms are meant: those of which a place is.

    Raises:
        ValueError: A pattern matches none of the norms.
    """
    if where is None:
        return lambda norm: True
    if not isinstance(where, str):
        check_function("where", where, (2,), "a pattern of names, or a function of name and norm")
        return lambda norm: any(where(name, norm.module) for name in norm.names)
    names = [name for norm in norms for name in norm.names]
    wanted = {name for name in names if fnmatch.fnmatchcase(name, where)}
    if not wanted:
        raise ValueError(f"where is {where!r}, which matches none of {', '.join(names)}")
    return lambda norm: not wanted.isdisjoint(norm.names)
