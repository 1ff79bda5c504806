"""Where the norms of a model stand."""

from __future__ import annotations

import fnmatch
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


def selection(where: Where | None, norms: list[Standing]) -> Callable[[Standing], bool]:
    """Return which norms are meant: those of which a place is.

    Raises:
        ValueError: A pattern matches none of the norms.
    """
    if where is None:
        return lambda norm: True
    if not isinstance(where, str):
        return lambda norm: any(where(name, norm.module) for name in norm.names)
    names = [name for norm in norms for name in norm.names]
    wanted = {name for name in names if fnmatch.fnmatchcase(name, where)}
    if not wanted:
        raise ValueError(f"where is {where!r}, which matches none of {', '.join(names)}")
    return lambda norm: not wanted.isdisjoint(norm.names)
