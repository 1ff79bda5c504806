"""Watches the calls of a model and its parts, and provides their batch to the norms inside."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Final

import torch
from torch import nn

from graphnorms.dropin.batch_of import Frame, current, pop, prepare, push
from graphnorms.dropin.batch_search import Found, is_like_batch, look_through, may_hold_batch

Detach = Callable[[], None]
"""Removes a hook or wrapper."""

_STEPS: Final = ("training_step", "validation_step", "test_step", "predict_step")
"""The methods that Lightning calls instead of the module itself."""


class CallWatch:
    """Finds the batch in the arguments of a method, and provides it to the norms while it runs.

    Args:
        module: The module.
        name: The method.
        root: Whether this is the outermost module: if it gets no batch, there is none.
        single_graph: Whether a call without a batch is one graph; `None`: if no argument could hold
            a batch.
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
        self.names, takes_others = parameters_of(getattr(module, name))
        self.has_place = takes_others or any(map(may_hold_batch, self.names))
        self.root = root
        self.single_graph = single_graph
        self.called = type(module).__name__

    def attach(self, module: nn.Module) -> Detach:
        """Start watching the module; return the function that stops it."""
        before = vars(module).get(self.name)
        makes_its_own = before is not None and not isinstance(before, WatchedMethod)
        if not (makes_its_own or isinstance(module, torch.fx.GraphModule)):
            return WatchedMethod(module, self, before).attach()
        # PyG's `Sequential` and modules of `torch.fx` set their own forward, also in every copy;
        # hooks survive.
        enter = module.register_forward_pre_hook(self._before, prepend=True, with_kwargs=True)
        # Also after an exception, so that no frame is left.
        leave = module.register_forward_hook(self._after, always_call=True)

        def detach() -> None:
            enter.remove()
            leave.remove()

        return detach

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Find the batch, and push it on the stack."""
        values = {**dict(zip(self.names, args, strict=False)), **kwargs}
        for i in range(len(self.names), len(args)):
            values[f"argument {i}"] = args[i]
        found, outer = look_through(values), current()
        if found.given is not None:
            push(self, Frame(found.given, found.others))
        elif outer is not None:
            # Push it again, so that a recursive call pops its own frame only.
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
        """Describe what happens to a call without a batch, if it is not an error."""
        if self.single_graph:
            return "Rows without a known batch are one graph: single_graph=True."
        if self.single_graph is None and not self.has_place:
            return (
                f"{self.called} takes no batch: a call is one graph, except in "
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
    """Replaces a method of a module, and watches its calls.

    Unlike a pair of hooks, `torch.compile` traces it together with the call, and its `finally`
    always runs.

    Args:
        module: The module.
        watch: Finds the batch.
        before: An earlier one at the same place; not called, but restored at the end.
    """

    def __init__(
        self, module: nn.Module, watch: CallWatch, before: WatchedMethod | None = None
    ) -> None:
        self.module = module
        self.watch = watch
        self.before = before
        method = MethodType(getattr(type(module), watch.name), module)
        functools.update_wrapper(self, method)
        self.__code__ = method.__code__  # torch.export reads its location

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
        """Install it in the module; return the function that removes it."""
        setattr(self.module, self.watch.name, self)
        return self._detach

    def _detach(self) -> None:
        # If something has wrapped it since, it stays there without harm.
        if vars(self.module).get(self.watch.name) is self:
            delattr(self.module, self.watch.name)
            if self.before is not None:
                self.before.attach()


def watch_model(
    model: nn.Module, norms: set[int], single_graph: bool | None
) -> tuple[list[Detach], str]:
    """Watch the model, and the modules around its norms that may get a batch.

    Args:
        model: The model.
        norms: The ids of the norms inside that need the batch.
        single_graph: See `CallWatch`.

    Returns:
        The functions that stop watching, and a remark on calls without a batch.
    """
    prepare()
    detach: list[Detach] = []
    note = ""
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    for module in _around(model, norms):
        root = module is model
        watch = CallWatch(module, root=root, single_graph=single_graph)
        if root:
            note = watch.note()
        if root or any(may_hold_batch(name) or is_like_batch(name) for name in watch.names):
            detach.append(watch.attach(module))
        for name in _STEPS:
            if callable(getattr(type(module), name, None)):
                step = CallWatch(module, name, root=True, single_graph=single_graph)
                detach.append(step.attach(module))
    return detach, note


def _around(model: nn.Module, norms: set[int]) -> Iterator[nn.Module]:
    """Iterate over the modules that contain a norm, the model first."""
    for module in model.modules():
        inside = (id(inner) for inner in module.modules() if inner is not module)
        if module is model or (id(module) not in norms and not norms.isdisjoint(inside)):
            yield module


def parameters_of(function: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """Return the names of a function's arguments, and whether it accepts others."""
    names: list[str] = []
    takes_others = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            takes_others = True
        else:
            names.append(parameter.name)
    # The forward of PyG's Sequential accepts anything; `signature` declares its arguments.
    signature = getattr(getattr(function, "__self__", None), "signature", None)
    declared = getattr(signature, "param_dict", None)
    if takes_others and isinstance(declared, Mapping):
        return tuple(declared), False
    return tuple(names), takes_others
