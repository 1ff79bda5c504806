"""The hooks on models: they find the batch in what a model is called with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.dropin.context import current, pop, push
from graphnorms.segments import Segments

_OF_OBJECTS: Final = ("data", "graph", "graphs", "g", "inputs", "sample")
"""What arguments are called that hold everything: a `Data` object, or a mapping."""

_BATCHES: Final = ("batch", "batch_dict")


class Found(NamedTuple):
    """What was found in the arguments of a call."""

    batch: Any = None
    batch_size: Any = None
    ptr: Tensor | None = None
    one_graph: bool = False
    """An object that holds graphs was there, and it has no batch: it is a single graph."""
    unknown: str = ""
    """The class of an object that may hold a batch, where nothing else was found."""


class Finder:
    """Finds the batch in the arguments of a module, for as long as its forward runs.

    Args:
        module: The module.
        root: Whether it is the whole model. What the root is not given, nobody has given.
        single_graph: Whether a call without a batch is one graph; `None` for yes where the
            forward has no argument for a batch.
    """

    def __init__(self, module: nn.Module, *, root: bool, single_graph: bool | None) -> None:
        self.names, self.open = _parameters(module)
        self.root = root
        self.called = type(module).__name__
        self.has_place = self.open or any(
            name in (*_BATCHES, "ptr", *_OF_OBJECTS) for name in self.names
        )
        self.single_graph = single_graph

    def attach(self, module: nn.Module) -> tuple[Any, Any]:
        """Put the hooks on a module."""
        return (
            module.register_forward_pre_hook(self.enter, prepend=True, with_kwargs=True),
            # Called after an exception, too: what was entered is left.
            module.register_forward_hook(self.leave, with_kwargs=True, always_call=True),
        )

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look for the batch, and keep it for the norms inside."""
        found = self.find(args, kwargs)
        if found.batch is not None or found.ptr is not None:
            push(self, found.batch, found.batch_size, found.ptr)
        elif current() is not None:
            return
        elif found.one_graph:
            push(self, None)
        elif self.root:
            if self.single_graph or (
                self.single_graph is None and not self.has_place and not found.unknown
            ):
                push(self, None)
            else:
                push(self, None, missing=self._missing(found))

    def leave(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Forget it."""
        pop(self)

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Found:
        """Look through the arguments of a call, by name first."""
        values = dict(zip(self.names, args, strict=False))
        values.update(kwargs)
        found = _by_name(values)
        if found is not None:
            return found
        best = Found()
        for value in (*args, *kwargs.values()):
            found = _in_object(value)
            if found is None:
                continue
            if found.batch is not None or found.ptr is not None:
                return found
            if found.one_graph or not best.one_graph:
                best = found
        return best

    def _missing(self, found: Found) -> str:
        if found.unknown:
            return f"{self.called} was called with a {found.unknown}, in which no batch is found"
        if self.has_place:
            return f"{self.called} was called without batch"
        return f"{self.called} takes no batch"


def _parameters(module: nn.Module) -> tuple[tuple[str, ...], bool]:
    """List the names of the positional arguments of forward, and whether it takes any others."""
    names, takes_others = [], False
    for parameter in inspect.signature(module.forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            takes_others = True
        else:
            names.append(parameter.name)
    return tuple(names), takes_others


def _by_name(values: Mapping[str, Any]) -> Found | None:
    """Find `batch`, `batch_size` and `ptr` among named values."""
    batch = next((values[name] for name in _BATCHES if _is_batch(values.get(name))), None)
    ptr = values.get("ptr")
    ptr = ptr if _is_vector(ptr) else None
    if batch is None and ptr is None:
        return None
    size = values.get("batch_size")
    if size is None and ptr is not None and not isinstance(batch, Segments):
        size = ptr.shape[0] - 1
    return Found(batch, size, ptr)


def _in_object(value: Any, depth: int = 2) -> Found | None:
    """Find the batch in an object that may hold one: `Data`, a mapping, a tuple of such."""
    if value is None or isinstance(value, Tensor | int | float | str):
        return None
    if isinstance(value, Mapping):
        return _by_name(value)
    if isinstance(value, tuple | list):
        parts = [_in_object(part, depth - 1) for part in value] if depth else []
        return next((part for part in parts if part is not None), None)
    if isinstance(value, Segments):
        return Found(value)
    found = _by_name({"batch": getattr(value, "batch", None), "ptr": getattr(value, "ptr", None)})
    if found is not None:
        return found
    if hasattr(value, "edge_index_dict"):
        return _by_name({"batch": getattr(value, "batch_dict", None)}) or Found(one_graph=True)
    if hasattr(value, "edge_index"):
        return Found(one_graph=True)
    return Found(unknown=type(value).__name__)


def _is_vector(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dim() == 1
        and not value.is_floating_point()
        and value.dtype != torch.bool
    )


def _is_batch(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(map(_is_batch, value.values()))
    return isinstance(value, Segments) or _is_vector(value)
