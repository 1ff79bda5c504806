"""How the batch gets from the call of a model, or of a part of it, to the norms inside."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.module_tracker import ModuleTracker

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
    rows_of,
    size_of,
)
from graphnorms.dropin.norms import KnownNorm, Path, is_per_graph
from graphnorms.segments import Segments
from graphnorms.tracing import assert_async, is_traced

Detach = Callable[[], None]
"""Removes what was attached."""

_STEPS: Final = ("training_step", "validation_step", "test_step", "predict_step")
"""The methods by which Lightning calls a module; it does not call the module itself."""

_SIZES: Final = ("batch_size", "dim_size")
"""Names under which norms take the number of graphs."""

_HOW: Final = (
    "give the model, or the part that holds the norm, the batch of these rows, or call it in "
    "`with graphnorms.batch(batch, batch_size):`; if all rows are one graph, "
    "graphnorms.batch(None) says so once, replace_norms(…, single_graph=True) always"
)


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


class NormHook:
    """The hook on a norm: adds the batch to its arguments if the model calls it without.

    Args:
        norm: The norm.
        paths: The ways to it through the model, for errors and to find its node type; several
            if the norm, or a part that holds it, is used several times.
        positions: Whether features may have more than two dimensions.
        single_graph: Whether rows without a known batch are one graph.
    """

    def __init__(
        self, norm: nn.Module, paths: list[Path], *, positions: bool, single_graph: bool
    ) -> None:
        self.paths = paths
        self.name = paths[0].name
        self.title = f"{self.name} ({type(norm).__name__})"
        self.leaving = f"replace_norms(…, where=lambda name, norm: name != {self.name!r})"
        self.per_graph = is_per_graph(norm)
        self.positions = positions
        self.single_graph = single_graph
        self.had_batch = False
        parameters = list(inspect.signature(norm.forward).parameters)
        sized = len(parameters) > 2 and parameters[2] in _SIZES
        self.takes = () if "batch" not in parameters else ("batch", *parameters[2:3][:sized])

    def attach(self, norm: nn.Module) -> Detach:
        """Put the hook on the norm; return how to remove it."""
        detach: Detach = norm.register_forward_pre_hook(self.complete, with_kwargs=True).remove
        return detach

    def complete(
        self, norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the norm, in whatever form the old one took them."""
        rest = dict(kwargs)
        x, batch, size, *others = (*args, None, None, None)[: max(len(args), 3)]
        x = rest.pop("x", rest.pop("input", None)) if x is None else x
        batch = rest.pop("batch", None) if batch is None else batch
        for name in _SIZES:
            size = rest.pop(name, None) if size is None else size
        if not self.positions and x.dim() != 2:
            raise ValueError(
                f"{self.title} is given {tuple(x.shape)}, expected (nodes, channels): leave it as "
                f"it was, {self.leaving}"
            )
        if self.per_graph:
            frame = current()
            if batch is None:
                batch, size = self._from_frame(frame, x)
            elif size is None and frame is not None and frame.given.batch is batch:
                size = size_of(frame.given.held_size)
        given = (batch, size)[: len(self.takes)]
        if others:
            return (x, *given, *others), rest
        # By name, so that hooks see the positions that the model gives.
        return (x,), rest | dict(zip(self.takes, given, strict=True))

    def _from_frame(self, frame: Frame | None, x: Tensor) -> tuple[Tensor | Segments | None, Any]:
        if frame is None or frame.missing:
            why = "it was called outside of the model" if frame is None else frame.missing
            # While autograd runs, a checkpoint calls again what was called before.
            if self.single_graph and not (self.had_batch and ModuleTracker().is_bw):
                return None, None
            raise ValueError(f"{self.title} needs the graph of every row, but {why}; {_HOW}")
        given = frame.given
        batch, held = given.batch, given.held_size
        if not (batch is None and given.ptr is None) and not is_traced():
            self.had_batch = True
        if isinstance(batch, Mapping):
            node_type = self._node_type(batch, given.name)
            batch = batch[node_type]
            held = held.get(node_type) if isinstance(held, Mapping) else held
        if batch is None:
            if given.ptr is None:
                return None, None
            unread = is_traced() or not given.ptr.is_cpu
            rows = x.shape[0] if unread else None
            batch = Segments.from_ptr(given.ptr, num_rows=rows, validate=not unread)
        size = None
        if not isinstance(batch, Segments):
            size = size_of(held)
            self._check_rows(frame, batch.shape[0], size, x)
        elif not is_traced():
            self._check_rows(frame, batch.num_rows, batch.num_segments, x)
        self._refuse_others(frame, batch, x)
        if isinstance(batch, Segments) and is_traced():
            # Its numbers would be constants to the compiler; the shapes of its tensors are not.
            batch = Segments(batch.ptr, batch.order, x.shape[0], masked=batch.masked)
        return batch, size

    def _node_type(self, batch: Mapping[Any, Any], called: str) -> Any:
        """Find the node type of the norm in its name, where containers by type put it."""
        found = [set(_types_of(path, batch)) for path in self.paths]
        types = set().union(*found)
        if len(types) == 1 and all(found):
            return types.pop()
        known = ", ".join(map(str, batch))
        if types:
            places = ", ".join(path.name for path in self.paths)
            raise ValueError(
                f"{self.title} stands for several node types, at {places}, and which of {known} "
                "its rows are of is not known; give every type a norm of its own "
                "(unshare=True for a norm that is shared itself), or have the model call it with "
                "the batch of its rows"
            )
        how = "give every type a norm of its own, under the name of the type, as to_hetero does"
        if keys := self.paths[0].keys:
            how = f"if {keys[-1]!r} is one, add its batch to {called}, else {how}"
        raise ValueError(
            f"{self.title} has none of the node types {known} in its name, so which batch its rows "
            f"are of is not known; {how}, or have the model call it with the batch of its rows"
        )

    def _check_rows(self, frame: Frame, rows: int, size: int | None, x: Tensor) -> None:
        given = x.shape[0]
        if given == rows:
            return
        if size is not None and given == size:
            what = "one per graph: it stands behind the pooling, where a graph is a single row"
        else:
            what = "so these are not the nodes"
            fitting = [o.name for o in frame.others if rows_of(o.batch, o.like) == given]
            if fitting:
                what = f"and {' and '.join(fitting)} as many"
        raise ValueError(
            f"{self.title} is given {given} rows and {frame.given.name} {rows}, {what}; leave it "
            f"as it was, {self.leaving}, or have the model call it with the batch of these rows"
        )

    def _refuse_others(self, frame: Frame, batch: Tensor | Segments, x: Tensor) -> None:
        """Refuse rows that another batch of the same call assigns to other graphs."""
        for name, other, _, _, like in frame.others:
            if isinstance(other, Mapping):
                types = [kind for path in self.paths for kind in _types_of(path, other)]
                if not types:
                    continue
                other = other[types[0]]
            if rows_of(other, like) != x.shape[0] or batch is other:
                continue
            words = (
                f"describe {self.title}'s rows, each in its own way; have the model call the norm, "
                "or the part that holds it, with the batch of these rows, or in "
                "`with graphnorms.batch(batch):`"
            )
            same = _say_the_same(batch, other)
            if is_traced():  # which cannot look: the graph does, when it runs
                assert_async(same, f"{frame.given.name} and {name} {words}")
            elif not same:
                raise ValueError(
                    f"{frame.given.name} and {name}, both of {x.shape[0]} rows, {words}"
                )


def withdraw(norm: nn.Module) -> tuple[list[NormHook], Detach]:
    """Remove the `NormHook`s of a norm; return them, and how to put them back."""
    hooks = dict(norm._forward_pre_hooks)
    owners = {key: getattr(hook, "__self__", None) for key, hook in hooks.items()}
    ours = {key: owner for key, owner in owners.items() if isinstance(owner, NormHook)}
    for key in ours:
        del norm._forward_pre_hooks[key]
        del norm._forward_pre_hooks_with_kwargs[key]

    def put_back() -> None:
        norm._forward_pre_hooks.update({key: hooks[key] for key in ours})
        norm._forward_pre_hooks_with_kwargs.update(dict.fromkeys(ours, True))

    return list(ours.values()), put_back


def _say_the_same(batch: Tensor | Segments, other: Any) -> Tensor:
    """Whether two batches of equally many rows are the same; `None` is one graph."""
    index, also = (b.index if isinstance(b, Segments) else b for b in (batch, other))
    also = torch.zeros_like(index) if also is None else also
    return (index == also.to(index.device)).all()


def _types_of(path: Path, types: Mapping[Any, Any]) -> list[Any]:
    """List the types that match the innermost part of a path that names a type.

    Keys of containers come first: any other part may have the name of a type by chance.
    """
    for part in (*reversed(path.keys), *reversed(path.name.split("."))):
        found = [kind for kind in types if part in _keys(kind)]
        if found:
            return found
    return []


def _keys(kind: Any) -> set[str]:
    """List the keys under which torch, PyG and `to_hetero` keep the module of a type."""
    if isinstance(kind, tuple):
        names = {"__".join(kind), f"<{'___'.join(kind)}>"}
    else:
        names = {str(kind), f"<{kind}>"}
    names |= {name.replace(".", "#") for name in names}
    return names | {re.sub(r"[^\w<>#]", "_", name) for name in names}


class Call(NamedTuple):
    """What a norm was given in one call."""

    shape: tuple[int, ...]
    """The shape of the features."""
    nodes: tuple[int, ...]
    """Rows of the batch, one number for each type if there are types; empty for one graph."""
    graphs: int | None
    """How many graphs there are, if known."""

    def reason(self, *, per_graph: bool) -> str:
        """Return why a norm of (nodes, channels) cannot stand there; empty if it can."""
        if len(self.shape) != 2:
            return f"it is given {self.shape}, not (nodes, channels)"
        rows = self.shape[0]
        if not per_graph or not self.nodes or rows in self.nodes:
            return ""
        if rows == self.graphs:
            return "it stands behind the pooling: a graph is one row there, with nothing in it"
        return f"it is given {rows} rows, and the batch has {' + '.join(map(str, self.nodes))}"


def call_once(model: nn.Module, example: Any, norms: list[KnownNorm]) -> dict[int, list[Call]]:
    """Call a model in `eval()`, without gradients, and record what its norms are given.

    Args:
        model: The model, as it is.
        example: A tuple of its arguments, a mapping of arguments by name, or its one argument.
        norms: The norms to watch.

    Returns:
        The calls of every norm, by its id.
    """
    if isinstance(example, DataLoader):
        raise ValueError("example is a DataLoader, expected what it gives: next(iter(loader))")
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example, Mapping):
        kwargs = dict(example)
    else:
        args = tuple(example) if isinstance(example, tuple | list) else (example,)
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(
            f"example does not fit {type(model).__name__}.forward{signature}: {error}; expected a "
            "tuple of its arguments, a mapping by name, or its one argument"
        ) from None
    calls: dict[int, list[Call]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("x", kwargs.get("input"))
        if isinstance(x, Tensor):
            calls.setdefault(id(module), []).append(Call(tuple(x.shape), *_sizes(current())))

    detach = [Watch(model, root=True).attach(model)]
    for norm in norms:
        handle = norm.module.register_forward_pre_hook(note, with_kwargs=True)
        detach.append(handle.remove)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    finally:
        for module in training:
            module.training = True
        for step in detach:
            step()
    return calls


def _sizes(frame: Frame | None) -> tuple[tuple[int, ...], int | None]:
    """Return the rows of a frame's batch, by type, and the number of graphs."""
    given = (frame or Frame()).given
    batch = given.batch
    if batch is None:
        if given.ptr is None:
            return (), None
        batch = Segments.from_ptr(given.ptr)
    parts = list(batch.values()) if isinstance(batch, Mapping) else [batch]
    segments = [p if isinstance(p, Segments) else Segments.from_batch(p) for p in parts]
    return tuple(part.num_rows for part in segments), max(part.num_segments for part in segments)
