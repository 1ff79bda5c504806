"""Finds the batch in the calls of a model and of its parts, and keeps it for the norms inside."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Final

import torch
from torch import nn

from graphnorms.dropin.batch_of import (
    Found,
    Frame,
    current,
    is_like_batch,
    look_through,
    may_hold_batch,
    pop,
    prepare,
    push,
)

Detach = Callable[[], None]
"""Removes what was attached."""

_STEPS: Final = ("training_step", "validation_step", "test_step", "predict_step")
"""The methods by which Lightning calls a module; it does not call the module itself."""


class Watch:
    """Finds the batch in the arguments of a method, and keeps it for the norms while it runs.

    Args:
        module: The module.
        name: The method.
        root: True for the outermost module: if it gets no batch, there is none.
        single_graph: Whether a call without a batch is one graph; `None` for yes if no argument
            could hold one.
    """

    def __init__(
        self,
        module: nn.Module,
        name: str = "forward",
        *,
        root: bool = False,
        single_graph: bool | None = None,
    ) -> None:
        self.name = name
        self.names, takes_others = _parameters(getattr(module, name))
        self.has_place = takes_others or any(map(may_hold_batch, self.names))
        self.root = root
        self.single_graph = single_graph
        self.called = type(module).__name__

    def attach(self, module: nn.Module) -> Detach:
        """Begin to watch the module; return how to stop."""
        before = vars(module).get(self.name)
        makes_its_own = before is not None and not isinstance(before, WatchedMethod)
        if not (makes_its_own or isinstance(module, torch.fx.GraphModule)):
            return WatchedMethod(module, self, before).attach()
        # PyG's `Sequential` and modules of `torch.fx` set their own forward, and again in every
        # copy; hooks stay.
        enter = module.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True)
        # Also after an exception, so that no frame stays behind.
        leave = module.register_forward_hook(self._after, always_call=True)

        def detach() -> None:
            enter.remove()
            leave.remove()

        return detach

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look for the batch, and put it on the stack."""
        values = {**dict(zip(self.names, args, strict=False)), **kwargs}
        for i in range(len(self.names), len(args)):
            values[f"argument {i}"] = args[i]
        found, outer = look_through(values), current()
        if found.given is not None:
            push(self, Frame(found.given, found.others))
        elif outer is not None:
            # Put on top again, so that a model that calls itself removes its own frame only.
            others = outer.others if outer.by_hand else (*outer.others, *found.others)
            push(self, outer._replace(others=others))
        elif found.single:
            push(self, Frame())
        elif self.root:
            alone = self.single_graph
            if alone is None:
                alone = not (self.has_place or found.doubt)
            push(self, Frame(missing="" if alone else self._missing(found)))

    def leave(self) -> None:
        """Remove it."""
        pop(self)

    def note(self) -> str:
        """Say what happens to a call without a batch, if it is no error."""
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

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.enter(args, kwargs)

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.leave()


class WatchedMethod:
    """Stands in a module in place of a method, and watches its calls.

    To `torch.compile` it is one piece with the call, which a pair of hooks is not, and it ends
    with the call, whatever happens.

    Args:
        module: The module.
        watch: What finds the batch.
        before: The one that stood there already; it is not called, but put back at the end.
    """

    def __init__(
        self, module: nn.Module, watch: Watch, before: WatchedMethod | None = None
    ) -> None:
        self.module = module
        self.watch = watch
        self.before = before
        method = MethodType(getattr(type(module), watch.name), module)
        functools.update_wrapper(self, method)
        self.__code__ = method.__code__  # torch.export notes where it is

    def __reduce__(self) -> tuple[Any, ...]:
        return WatchedMethod, (self.module, self.watch, self.before)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method, with the batch found."""
        self.watch.enter(args, kwargs)
        try:
            return getattr(type(self.module), self.watch.name)(self.module, *args, **kwargs)
        finally:
            self.watch.leave()

    def attach(self) -> Detach:
        """Put it into the module; return how to remove it."""
        setattr(self.module, self.watch.name, self)
        return self._detach

    def _detach(self) -> None:
        # If something has wrapped it since, it stays there and does no harm.
        if vars(self.module).get(self.watch.name) is self:
            delattr(self.module, self.watch.name)
            if self.before is not None:
                self.before.attach()


def watch_model(
    model: nn.Module, norms: set[int], single_graph: bool | None
) -> tuple[list[Detach], str]:
    """Watch the model, and the modules around its norms that can be given a batch.

    Args:
        model: The model.
        norms: The ids of the norms inside that need the batch.
        single_graph: See `Watch`.

    Returns:
        How to stop each, and what a user should know of calls without a batch.
    """
    prepare()
    detach: list[Detach] = []
    note = ""
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    for module in _around(model, norms):
        root = module is model
        watch = Watch(module, root=root, single_graph=single_graph)
        if root:
            note = watch.note()
        if root or any(may_hold_batch(name) or is_like_batch(name) for name in watch.names):
            detach.append(watch.attach(module))
        for name in _STEPS:
            if callable(getattr(type(module), name, None)):
                step = Watch(module, name, root=True, single_graph=single_graph)
                detach.append(step.attach(module))
    return detach, note


def _around(model: nn.Module, norms: set[int]) -> Iterator[nn.Module]:
    """Iterate over the modules that contain one of the norms, the model first."""
    for module in model.modules():
        inside = (id(inner) for inner in module.modules() if inner is not module)
        if module is model or (id(module) not in norms and not norms.isdisjoint(inside)):
            yield module


def _parameters(function: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """Return the names of a function's arguments, and whether it takes any others."""
    names: list[str] = []
    takes_others = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            takes_others = True
        else:
            names.append(parameter.name)
    # The forward of PyG's Sequential takes anything; its arguments are declared elsewhere.
    signature = getattr(getattr(function, "__self__", None), "signature", None)
    declared = getattr(signature, "param_dict", None)
    if takes_others and isinstance(declared, Mapping):
        return tuple(declared), False
    return tuple(names), takes_others
