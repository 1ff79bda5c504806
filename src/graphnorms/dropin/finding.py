"""Finding the batch in what a model is called with."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.dropin.context import current, pop, push, repeat
from graphnorms.segments import Segments

_BATCHES: Final = ("batch", "batch_dict")
_OF_OBJECTS: Final = ("data", "graph", "graphs", "g", "inputs", "sample")
"""What arguments are called that hold everything: a `Data` object, or a mapping."""

_OF_EDGES: Final = ("edge_index", "edge_index_dict", "adj_t")
"""What an object has that holds a graph."""

_ABSENT: Final = object()
_WITHOUT_BATCH: Final = ("SparseTensor", Adjacency.__name__)
"""Classes of arguments that hold edges alone."""

_OF_SOMETHING_ELSE: Final = frozenset({
    "y", "z", "label", "labels", "target", "targets", "node_type", "n_id", "e_id",
})  # fmt: skip
"""What vectors of integers are called that are no batch; so is all that begins with `edge`."""

_STEPS: Final = ("training_step", "validation_step", "test_step", "predict_step")
"""The methods by which Lightning calls a module; it does not call the module itself."""


class Found(NamedTuple):
    """What was found in the arguments of a call."""

    batch: Any = None
    batch_size: Any = None
    ptr: Tensor | None = None
    one_graph: bool = False
    """Whether an object that holds graphs was there without a batch: it is a single graph."""
    doubt: str = ""
    """In words, what may hold a batch, where no batch was found."""

    @property
    def given(self) -> bool:
        """Whether there is a batch."""
        return self.batch is not None or self.ptr is not None


_NOTHING: Final = Found()


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
        self.has_place = takes_others or any(map(_may_hold_batch, self.names))
        self.root = root
        self.single_graph = single_graph
        self.called = type(module).__name__

    def enter(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Look for the batch, and keep it for the norms inside."""
        found = self.find(args, kwargs)
        if found.given:
            push(self, found.batch, found.batch_size, found.ptr)
        elif current() is not None:
            repeat(self)
        elif found.one_graph:
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
        found = _by_name(values)
        if found is not None:
            return found
        others = [(f"argument {i}", args[i]) for i in range(len(self.names), len(args))]
        best = _NOTHING
        for name, value in (*values.items(), *others):
            found = _in(name, value)
            if found.given:
                return found
            if found is not _NOTHING and not best.one_graph:
                best = found
        return best

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
    detach: list[Callable[[], None]] = []
    note = ""
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    for module in _around(model, norms):
        root = module is model
        finder = Finder(module, module.forward, root=root, single_graph=single_graph)
        if root:
            note = finder.note()
        if root or any(map(_may_hold_batch, finder.names)):
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


def _may_hold_batch(name: str) -> bool:
    return name in (*_BATCHES, *_OF_OBJECTS, "ptr")


def _by_name(values: Mapping[str, Any]) -> Found | None:
    """Find `batch`, `batch_size` and `ptr` among named values."""
    batch, by_type, ptr = values.get("batch"), values.get("batch_dict"), values.get("ptr")
    batch = batch if _is_batch(batch) else by_type if _is_batch(by_type) else None
    ptr = ptr if _is_vector(ptr) else None
    if batch is None and ptr is None:
        return None
    size = values.get("batch_size")
    if size is None and ptr is not None and not isinstance(batch, Segments):
        size = ptr.shape[0] - 1
    return Found(batch, size, ptr)


def _in(name: str, value: Any, depth: int = 2) -> Found:
    """Find the batch in something that may hold one: `Data`, a mapping, a tuple of such."""
    if isinstance(value, Tensor):
        named = name in _OF_SOMETHING_ELSE or name.startswith("edge")
        in_doubt = _is_vector(value) and not named
        return Found(doubt=f"{name}, a vector of integers") if in_doubt else _NOTHING
    if value is None or isinstance(value, int | float | str):
        return _NOTHING
    if isinstance(value, Segments):
        return Found(value)
    if isinstance(value, Mapping):
        return _by_name(value) or _NOTHING
    if isinstance(value, tuple | list):
        parts = [_in(name, part, depth - 1) for part in value] if depth else []
        return max(parts, key=lambda found: (found.given, found is not _NOTHING), default=_NOTHING)
    batch = _attribute(value, "batch", _ABSENT)
    found = _by_name({"batch": batch, "ptr": _attribute(value, "ptr")})
    if found is not None:
        return found
    by_type = _attribute(value, "batch_dict")  # HeteroData
    if _is_batch(by_type):
        offsets = _attribute(value, "ptr_dict") or {}
        return Found(by_type, {kind: ptr.shape[0] - 1 for kind, ptr in offsets.items()})
    if batch is None or any(_attribute(value, name) is not None for name in _OF_EDGES):
        return Found(one_graph=True)
    kind = type(value).__name__
    return _NOTHING if kind in _WITHOUT_BATCH else Found(doubt=f"{name}, a {kind}")


def _attribute(value: Any, name: str, default: Any = None) -> Any:
    try:
        return getattr(value, name, default)
    except KeyError:  # as HeteroData says that no type has it
        return default


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
