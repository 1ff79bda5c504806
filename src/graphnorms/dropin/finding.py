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
from graphnorms.dropin.context import (
    Other,
    current,
    is_batch,
    is_vector,
    pop,
    prepare,
    push,
    repeat,
)
from graphnorms.segments import Segments
from graphnorms.tracing import is_traced

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
    """What was found in the arguments of a call, or in one of them."""

    batch: Any = None
    batch_size: Any = None
    ptr: Tensor | None = None
    name: str = "batch"
    """What the batch is called."""
    single: tuple[Other, ...] = ()
    """Objects that hold a graph and no batch: each is a single graph."""
    doubt: str = ""
    """In words, what may hold a batch, where no batch was found."""
    yields: bool = False
    """Whether the doubt gives way to an object that says that it is a single graph."""
    others: tuple[Other, ...] = ()
    """Vectors that are called like a batch; nothing but a batch is used as one."""
    vectors: tuple[Other, ...] = ()
    """Vectors of integers that are called anything else."""

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
        found = _by_name(values)
        taken = () if found is None else (*_BATCHES, "ptr", "batch_size")
        parts = [] if found is None else [found]
        parts += [_in(name, value) for name, value in values.items() if name not in taken]
        return _together(parts, pairs=sum(map(_is_of_edges, values)) > 1)

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
        if root or any(_may_hold_batch(name) or _is_like_batch(name) for name in finder.names):
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


def _is_like_batch(name: str) -> bool:
    """Whether a vector of this name says of some rows which graph they belong to."""
    return "batch" in name and "size" not in name


def _is_of_something_else(name: str) -> bool:
    return name in _OF_SOMETHING_ELSE or name.startswith("edge")


def _is_of_edges(name: str) -> bool:
    return name.startswith(("edge_index", "adj")) and not name.endswith("_dict")


def _by_name(values: Mapping[str, Any], called: str = "{}") -> Found | None:
    """Find `batch`, `batch_size` and `ptr` among named values; `called` has a place for a name."""
    batch, by_type, ptr = values.get("batch"), values.get("batch_dict"), values.get("ptr")
    batch = batch if is_batch(batch) else by_type if is_batch(by_type) else None
    ptr = ptr if is_vector(ptr) else None
    if batch is None and ptr is None:
        return None
    size = values.get("batch_size")
    if size is None and ptr is not None and not isinstance(batch, Segments):
        size = ptr.shape[0] - 1
    name = "ptr" if batch is None else "batch_dict" if batch is by_type else "batch"
    return Found(batch, size, ptr, called.format(name))


def _together(parts: list[Found], *, pairs: bool = False) -> Found:
    """Put together what was found in several values.

    The first batch is the one in use. What came with it is kept: a norm that has as many rows as
    both is not given either.

    Args:
        parts: What was found in each.
        pairs: Whether there are the edges of two graphs: then any vector of integers may be a
            batch.
    """
    single = tuple(other for part in parts for other in part.single)
    others = tuple(other for part in parts for other in part.others)
    vectors = tuple(other for part in parts for other in part.vectors)
    given = [part for part in parts if part.given]
    if given:
        first = given[0]
        rest = [Other(part.name, part.batch) for part in given[1:] if part.batch is not None]
        others = (*others, *(vectors if pairs else ()), *rest, *single)
        return first._replace(others=others, vectors=vectors)
    doubt = " and ".join(part.doubt for part in parts if part.doubt)
    yields = all(part.yields for part in parts if part.doubt) and not any(
        _may_group(vector.batch, graph.like) for vector in vectors for graph in single
    )
    if single and yields:
        return Found(single=single)
    return Found(doubt=doubt, yields=yields, others=others, vectors=vectors)


def _in(name: str, value: Any, depth: int = 2) -> Found:
    """Find the batch in something that may hold one: `Data`, a mapping, a tuple of such."""
    if isinstance(value, Tensor):
        if not is_vector(value):
            dense = _is_dense(name, value)
            return Found(doubt=f"{name} of {tuple(value.shape)}") if dense else _NOTHING
        if _is_of_something_else(name):
            return _NOTHING
        words, vector = f"{name}, a vector of integers", (Other(name, value),)
        if _is_like_batch(name) and not name.endswith("]"):  # not for being inside of a `batch`
            return Found(doubt=words, others=vector)
        return Found(doubt=words, yields=True, vectors=vector)
    if value is None or isinstance(value, int | float | str):
        return _NOTHING
    if isinstance(value, Segments):
        return Found(value, name=name)
    if isinstance(value, Mapping):
        return _in_mapping(name, value, depth)
    if isinstance(value, tuple | list):
        parts = enumerate(value) if depth else ()
        found = _together([_in(f"{name}[{i}]", part, depth - 1) for i, part in parts])
        if isinstance(value, list) and len(found.single) > 1:
            return Found(doubt=f"{name}, a list of {len(found.single)} graphs")
        return found
    return _in_object(name, value)


def _in_mapping(name: str, value: Mapping[Any, Any], depth: int) -> Found:
    found = _by_name(value, f"{name}['{{}}']")
    parts = [_looked_through(value, f"{name}[{{!r}}]")]
    if depth:
        parts += [
            _in(f"{name}[{key!r}]", part, depth - 1)
            for key, part in value.items()
            if not (isinstance(part, Tensor) or key in _BATCHES)
        ]
    return _together(parts if found is None else [found, *parts])


def _in_object(name: str, value: Any) -> Found:
    batch = _attribute(value, "batch", _ABSENT)
    inside = _looked_through(_fields(value), f"{name}.{{}}")
    found = _by_name({"batch": batch, "ptr": _attribute(value, "ptr")}, f"{name}.{{}}")
    if found is not None:
        return found._replace(others=inside.others)
    by_type = _attribute(value, "batch_dict")  # HeteroData
    if is_batch(by_type):
        offsets = _attribute(value, "ptr_dict") or {}
        sizes = {kind: ptr.shape[0] - 1 for kind, ptr in offsets.items()}
        return Found(by_type, sizes, name=f"{name}.batch_dict")
    kind = type(value).__name__
    graphs = _attribute(value, "num_graphs")
    if isinstance(graphs, int) and graphs > 1:
        words = f"{name}, a {kind} of {graphs} graphs"
        return inside._replace(doubt=f"{words} with {inside.doubt}" if inside.doubt else words)
    if inside.doubt:
        return inside
    if batch is None or any(_attribute(value, edges) is not None for edges in _OF_EDGES):
        return Found(single=(Other(name, None, _fields(value).get("x")),))
    return _NOTHING if kind in _WITHOUT_BATCH else Found(doubt=f"{name}, a {kind}", yields=True)


def _fields(value: Any) -> Mapping[str, Any]:
    """Return what an object holds, by name."""
    store = _attribute(value, "_store")  # of PyG's Data; the compiler sees into its mapping alone
    fields: Mapping[str, Any] = _attribute(store, "_mapping", getattr(value, "__dict__", {}))
    return fields


def _looked_through(fields: Mapping[Any, Any], called: str) -> Found:
    """Find what may be a batch among what an object holds under other names."""
    tensors = {key: part for key, part in fields.items() if isinstance(part, Tensor)}
    features = [part for part in tensors.values() if part.dim() > 1 and part.is_floating_point()]
    doubts: list[str] = []
    others: list[Other] = []
    for key, part in tensors.items():
        name, words = str(key), called.format(key)
        if not is_vector(part):
            if name in ("x", "adj", "mask") and _is_dense(name, part):
                doubts.append(f"{words} of {tuple(part.shape)}")
        elif name in _BATCHES:
            continue
        elif _is_like_batch(name):
            others.append(Other(words, part))
            doubts.append(words)
        elif not _is_of_something_else(name) and any(_may_group(part, x) for x in features):
            doubts.append(f"{words}, a vector of integers")
    return Found(doubt=" and ".join(doubts), others=tuple(others))


def _is_dense(name: str, value: Tensor) -> bool:
    """Whether a tensor is of graphs that are padded to one size, which no batch describes."""
    if name.startswith(("edge", "train", "val", "test")):
        return False
    is_mask = value.dtype == torch.bool and value.dim() == 2 and value.shape[0] != value.shape[1]
    return is_mask or (value.dim() > 2 and value.shape[0] != 1)


def _may_group(vector: Tensor, like: Tensor | None) -> bool:
    """Whether a vector of integers groups the rows of a tensor, as a batch does in ascending order.

    Numbers of nodes, of classes and the like are not taken for one: it begins at 0, goes up in
    steps of 1, and some rows, but not all, share a number.
    """
    if like is None or vector.shape[0] != like.shape[0] or vector.shape[0] < 2:
        return False
    if is_traced():
        return True
    steps = vector.diff()
    up = (vector[0] == 0) & ((steps == 0) | (steps == 1)).all()
    return bool(up & steps.any() & ~steps.all())


def _attribute(value: Any, name: str, default: Any = None) -> Any:
    try:
        return getattr(value, name, default)
    except (KeyError, ValueError):  # as HeteroData and Batch say that they have none
        return default
