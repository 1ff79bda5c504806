"""Watching a model, and finding the batch in what it and its parts are called with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Final

import torch
from torch import nn

from graphnorms.dropin.arguments import Found, is_like_batch, look_through, may_hold_batch
from graphnorms.dropin.context import current, pop, prepare, push, repeat

_STEPS: Final = ("training_step", "validation_step", "test_step", "predict_step")
"""The methods by which Lightning calls a module; it does not call the module itself."""


class Finder:
    """Finds the batch in what a function of a module is called with, for as long as that runs.

    Args:
        module: The module.
        function: The function, for its signature.
        root: Whether the module is the whole model: what it is not given, nobody has given.
        single_graph: Whether a call without a batch is one graph; `None` for yes where no
            argument could hold one.
    """

    def __init__(
        self,
        module: nn.Module,
        function: Callable[..., Any],
        *,
        root: bool = False,
        single_graph: bool | None = None,
    ) -> None:
        self.names, takes_others = _parameters(function)
        self.has_place = takes_others or any(map(may_hold_batch, self.names))
        self.root = root
        self.single_graph = single_graph
        self.called = type(module).__name__

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look for the batch, and keep it for the norms inside."""
        found = self.find(args, kwargs)
        if found.given:
            push(
                self, found.batch, found.batch_size, found.ptr, name=found.name, others=found.others
            )
        elif current() is not None:
            repeat(self, found.others)
        elif found.single:
            push(self, None)
        elif self.root:
            alone = self.single_graph
            if alone is None:
                alone = not (self.has_place or found.doubt)
            push(self, None, missing="" if alone else self._missing(found))

    def leave(self) -> None:
        """Forget it."""
        pop(self)

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Found:
        """Look through the arguments of a call: by name, then into objects."""
        values = {**dict(zip(self.names, args, strict=False)), **kwargs}
        for i in range(len(self.names), len(args)):
            values[f"argument {i}"] = args[i]
        return look_through(values)

    def note(self) -> str:
        """Say what becomes of calls without a batch, where that is no error."""
        if self.single_graph:
            return "Rows of which nothing is known are one graph: single_graph=True."
        if self.single_graph is None and not self.has_place:
            return (
                f"{self.called} takes no batch: a call is one graph, unless it is in "
                "`with graphnorms.batch(batch, batch_size):`."
            )
        return ""

    def _missing(self, found: Found) -> str:
        if found.doubt:
            return f"{self.called} was called without batch but with {found.doubt}"
        return f"{self.called} {'was called without' if self.has_place else 'takes no'} batch"


class Watched:
    """A function of a module, `forward` or another, in which the batch is found.

    It stands in the module in place of the method. What is put around a call so is one piece for
    `torch.compile`, which a pair of hooks is not, and ends whatever happens.

    Args:
        module: The module.
        name: The method's name.
        finder: What finds the batch.
        before: What stood there already, which is then not called, but put back.
    """

    def __init__(
        self, module: nn.Module, name: str, finder: Finder, before: Watched | None = None
    ) -> None:
        self.module = module
        self.name = name
        self.finder = finder
        self.before = before
        method = MethodType(getattr(type(module), name), module)
        functools.update_wrapper(self, method)
        self.__code__ = method.__code__  # torch.export notes where it is

    def __reduce__(self) -> tuple[Any, ...]:
        return Watched, (self.module, self.name, self.finder, self.before)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method, with the batch found."""
        self.finder.enter(args, kwargs)
        try:
            return getattr(type(self.module), self.name)(self.module, *args, **kwargs)
        finally:
            self.finder.leave()

    def attach(self) -> Callable[[], None]:
        """Put it into the module, and return how to take it away."""
        setattr(self.module, self.name, self)
        return self._detach

    def _detach(self) -> None:
        # Whoever has wrapped it since keeps it; it does no harm.
        if vars(self.module).get(self.name) is self:
            delattr(self.module, self.name)
            if self.before is not None:
                setattr(self.module, self.name, self.before)


class Hooks:
    """Hooks around the calls of a module, in which the batch is found.

    For modules that make their forward themselves, and again for every copy, as PyG's
    `Sequential` and those of `torch.fx` do.

    Args:
        finder: What finds the batch.
    """

    def __init__(self, finder: Finder) -> None:
        self.finder = finder

    def attach(self, module: nn.Module) -> Callable[[], None]:
        """Put the hooks on the module, and return how to take them away."""
        before = module.register_forward_pre_hook(self._enter, prepend=True, with_kwargs=True)
        # Called after an exception, too: what was entered is left.
        after = module.register_forward_hook(self._leave, always_call=True)

        def detach() -> None:
            before.remove()
            after.remove()

        return detach

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.finder.enter(args, kwargs)

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.finder.leave()


def watch(module: nn.Module, finder: Finder, name: str = "forward") -> Callable[[], None]:
    """Have the batch found in the calls of a function, and return how to end that.

    Args:
        module: The module.
        finder: What finds it.
        name: The function.
    """
    before = vars(module).get(name)
    makes_its_own = before is not None and not isinstance(before, Watched)
    if makes_its_own or isinstance(module, torch.fx.GraphModule):
        return Hooks(finder).attach(module)
    return Watched(module, name, finder, before).attach()


def attach_finders(
    model: nn.Module, norms: set[int], single_graph: bool | None
) -> tuple[list[Callable[[], None]], str]:
    """Watch the model, and the modules around its norms that can be given a batch.

    Args:
        model: The model.
        norms: The ids of the norms inside that are to be given the batch.
        single_graph: See `Finder`.

    Returns:
        How to take each away again, and what a user has to know of calls without a batch.
    """
    prepare()
    detach: list[Callable[[], None]] = []
    note = ""
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    for module in _around(model, norms):
        root = module is model
        finder = Finder(module, module.forward, root=root, single_graph=single_graph)
        if root:
            note = finder.note()
        if root or any(may_hold_batch(name) or is_like_batch(name) for name in finder.names):
            detach.append(watch(module, finder))
        for name in _STEPS:
            if callable(getattr(type(module), name, None)):
                step = getattr(module, name)
                finder = Finder(module, step, root=True, single_graph=single_graph)
                detach.append(watch(module, finder, name))
    return detach, note


def _around(model: nn.Module, norms: set[int]) -> Iterator[nn.Module]:
    """Go through the modules that have one of the norms somewhere inside, the model first."""
    for module in model.modules():
        inside = (id(inner) for inner in module.modules() if inner is not module)
        if module is model or (id(module) not in norms and not norms.isdisjoint(inside)):
            yield module


def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """List the names of the arguments of a function, and say whether it takes any others."""
    names: list[str] = []
    takes_others = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            takes_others = True
        else:
            names.append(parameter.name)
    # PyG's Sequential may take anything by its forward, and says what it takes elsewhere.
    signature = getattr(getattr(function, "__self__", None), "signature", None)
    declared = getattr(signature, "param_dict", None)
    if takes_others and isinstance(declared, Mapping):
        return tuple(declared), False
    return tuple(names), takes_others
