"""Finds the batch in the arguments of a call, and keeps it for the norms while the call runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.index_checks import described
from graphnorms.segments import Segments
from graphnorms.tracing import is_traced

Graphs = Tensor | Segments | Mapping[Any, Any]
"""The graph of every row; for models with node types a mapping by type."""


class GivenBatch(NamedTuple):
    """A batch found in the arguments of a call, or an argument that is a single graph."""

    name: str = "batch"
    """Its name in the arguments."""
    batch: Graphs | None = None
    """`None` if there is a `ptr`, or for one graph."""
    held_size: Any = None
    """A tensor with one row per graph, or a mapping by type; `None` if the number of graphs was not
    given. `torch.compile` would specialize on a Python int and recompile for every batch size; it
    does not for the shape of a tensor."""
    ptr: Tensor | None = None
    """Offsets of the graphs, if there is no `batch`."""
    like: Tensor | None = None
    """For an object that is one graph: a tensor with its rows."""


class Frame(NamedTuple):
    """The known batch during one call or one `with` block."""

    given: GivenBatch = GivenBatch()
    """The batch in use; by default, all rows are one graph."""
    others: tuple[GivenBatch, ...] = ()
    """Other batches of the same call, which may describe the rows of a norm, too."""
    missing: str = ""
    """The reason, in words, if no batch is known; else empty."""
    by_hand: bool = False
    """Whether it was given by `graphnorms.batch`; then other batches are ignored."""


_stack: Final = threading.local()
"""`top` is the innermost frame of this thread, its owner, and the next `top`.

Not a `ContextVar`, because `torch.compile` traces only changes of a `threading.local` by hooks.
"""


def current() -> Frame | None:
    """Return the innermost frame, or `None` outside of all calls and blocks."""
    top = getattr(_stack, "top", None)
    return None if top is None else top[0]


def prepare() -> None:
    """Create this thread's stack before a compiled call guards on its absence."""
    _stack.top = getattr(_stack, "top", None)


def push(owner: object, frame: Frame) -> None:
    """Put a frame on top; `pop` by the same owner removes it."""
    _stack.top = (frame, owner, getattr(_stack, "top", None))


def pop(owner: object) -> None:
    """Remove the innermost frame if it belongs to this owner."""
    top = getattr(_stack, "top", None)
    if top is not None and top[1] is owner:
        _stack.top = top[2]


class batch:
    """Set the graph of every row for the norms inserted by `replace_norms`.

    Needed if a model is called without `batch` and without a `Data` object, or if a part of it is
    called separately. A batch in the arguments of a call takes precedence within this call. The
    block affects its own thread only, and blocks nest.

        with graphnorms.batch(data.batch, data.num_graphs):
            out = model.encode(data.x, data.edge_index)

    Args:
        batch: The graph of every row, `(rows,)` integer, or a `Segments`; for a model with node
            types a mapping from the type to either; `None` if all rows are one graph.
        batch_size: Number of graphs; for a model with node types one number, or a mapping by type.

    Raises:
        ValueError: `batch` is none of these.
    """

    def __init__(
        self, batch: Tensor | Segments | Mapping[Any, Any] | None, batch_size: Any = None
    ) -> None:
        for part in batch.values() if isinstance(batch, Mapping) else (batch,):
            if part is not None and not is_batch(part):
                raise ValueError(
                    f"batch is {described(part)}, expected a vector of integers, a Segments, a "
                    "mapping from node types to these, or None for one graph"
                )
        self._frame = Frame(GivenBatch("batch", batch, _held(batch_size, batch)), by_hand=True)

    def __enter__(self) -> None:
        push(self, self._frame)

    def __exit__(self, *error: object) -> None:
        pop(self)


def _held(size: Any, like: Any) -> Any:
    if isinstance(size, Mapping):
        return {kind: _held(number, like) for kind, number in size.items()}
    if size is None or isinstance(like, Segments):
        return None
    if isinstance(like, Tensor):
        return like.new_empty((size, 0))
    return torch.empty((size, 0))


def size_of(held: Any) -> Any:
    """Return the number of graphs, see `GivenBatch.held_size`."""
    return None if held is None else held.shape[0]


def segments_of(given: GivenBatch) -> list[Segments]:
    """Return the graphs of the rows, one for each node type; none if all rows are one graph.

    They are read on the host.
    """
    if given.batch is None:
        return [] if given.ptr is None else [Segments.from_ptr(given.ptr)]
    batch, size = given.batch, given.held_size
    if isinstance(batch, Mapping):
        sizes = size if isinstance(size, Mapping) else {}
        return [_as_segments(part, size_of(sizes.get(kind))) for kind, part in batch.items()]
    return [_as_segments(batch, size_of(size))]


def _as_segments(batch: Any, size: int | None) -> Segments:
    return batch if isinstance(batch, Segments) else Segments.from_batch(batch, size)


def rows_of(batch: Any, like: Tensor | None = None) -> int | None:
    """Count the rows that a batch describes; for `None`, the rows of `like`."""
    if batch is None:
        return None if like is None else like.shape[0]
    if isinstance(batch, Segments):
        return batch.num_rows
    return batch.shape[0] if isinstance(batch, Tensor) else None


def is_vector(value: Any) -> bool:
    """Whether a value is a vector of integers."""
    return (
        isinstance(value, Tensor)
        and value.dim() == 1
        and not value.is_floating_point()
        and value.dtype != torch.bool
    )


def is_batch(value: Any) -> bool:
    """Whether a value assigns rows to graphs, or is a mapping from types to such values."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(is_batch, value.values()))
    return isinstance(value, Segments) or is_vector(value)


# The batch in the arguments of a call.

_BATCHES: Final = ("batch", "batch_dict")
_OF_OBJECTS: Final = ("data", "graph", "graphs", "g", "inputs", "sample")
"""Names of arguments that hold the whole input: a `Data` object, or a mapping."""

_OF_EDGES: Final = ("edge_index", "edge_index_dict", "adj_t")
"""Attributes of objects that hold a graph."""

_ABSENT: Final = object()
_WITHOUT_BATCH: Final = ("SparseTensor", Adjacency.__name__)
"""Classes of objects that hold only edges."""

_OF_SOMETHING_ELSE: Final = frozenset(
    ["y", "z", "label", "labels", "target", "targets", "node_type", "n_id", "e_id"]
)
"""Names of integer vectors that are not a batch, besides all names that begin with `edge`."""


class Found(NamedTuple):
    """The search result for all arguments of a call, or for one of them."""

    given: GivenBatch | None = None
    single: tuple[GivenBatch, ...] = ()
    """Objects that hold a graph without a batch: each is one graph."""
    doubt: str = ""
    """Description of arguments that may hold a batch, if none was found."""
    yields: bool = False
    """Whether an argument that is a single graph resolves the doubt."""
    others: tuple[GivenBatch, ...] = ()
    """Vectors with a name like `x_batch`, which are compared with the batch, never used as such."""
    vectors: tuple[GivenBatch, ...] = ()
    """Integer vectors with other names."""


_NOTHING: Final = Found()


def look_through(values: Mapping[str, Any]) -> Found:
    """Find the batch in the arguments of a call: by name, then inside objects.

    Args:
        values: The arguments by name.
    """
    given = _by_name(values)
    taken = () if given is None else (*_BATCHES, "ptr", "batch_size")
    parts = [] if given is None else [Found(given)]
    parts += [_in(name, value) for name, value in values.items() if name not in taken]
    return _together(parts, pairs=sum(map(_is_of_edges, values)) > 1)


def may_hold_batch(name: str) -> bool:
    """Whether an argument of this name may be or hold the batch."""
    return name in (*_BATCHES, *_OF_OBJECTS, "ptr")


def is_like_batch(name: str) -> bool:
    """Whether a vector of this name assigns rows to graphs."""
    return "batch" in name and "size" not in name


def _is_of_something_else(name: str) -> bool:
    return name in _OF_SOMETHING_ELSE or name.startswith("edge")


def _is_of_edges(name: str) -> bool:
    return name.startswith(("edge_index", "adj")) and not name.endswith("_dict")


def _by_name(values: Mapping[str, Any], called: str = "{}") -> GivenBatch | None:
    """Find `batch`, `batch_size` and `ptr` among named values; `called` formats a name."""
    batch, by_type, ptr = values.get("batch"), values.get("batch_dict"), values.get("ptr")
    batch = batch if is_batch(batch) else by_type if is_batch(by_type) else None
    ptr = ptr if is_vector(ptr) else None
    if batch is None and ptr is None:
        return None
    size = values.get("batch_size")
    if size is None and ptr is not None and not isinstance(batch, Segments):
        size = ptr.shape[0] - 1
    name = "ptr" if batch is None else "batch_dict" if batch is by_type else "batch"
    held = _held(size, batch if ptr is None else ptr)
    return GivenBatch(called.format(name), batch, held, ptr)


def _together(parts: list[Found], *, pairs: bool = False) -> Found:
    """Combine the results for several values.

    The first batch is used. The others are kept: if two different batches fit the rows of a norm,
    the norm gets neither.

    Args:
        parts: The results.
        pairs: Whether the call has the edges of two graphs; any integer vector may be a batch then.
    """
    single = tuple(graph for part in parts for graph in part.single)
    others = tuple(other for part in parts for other in part.others)
    vectors = tuple(vector for part in parts for vector in part.vectors)
    given = [part.given for part in parts if part.given is not None]
    if given:
        rest = [batch for batch in given[1:] if batch.batch is not None]
        others = (*others, *(vectors if pairs else ()), *rest, *single)
        return Found(given[0], others=others, vectors=vectors)
    doubt = " and ".join(part.doubt for part in parts if part.doubt)
    yields = all(part.yields for part in parts if part.doubt) and not any(
        _may_group(vector.batch, graph.like) for vector in vectors for graph in single
    )
    if single and yields:
        return Found(single=single)
    return Found(doubt=doubt, yields=yields, others=others, vectors=vectors)


def _in(name: str, value: Any, depth: int = 2) -> Found:
    """Find the batch inside a value: a `Data`, a mapping, or a tuple of these."""
    if isinstance(value, Tensor):
        if not is_vector(value):
            dense = _is_dense(name, value)
            return Found(doubt=f"{name} of {tuple(value.shape)}") if dense else _NOTHING
        if _is_of_something_else(name):
            return _NOTHING
        words, vector = f"{name}, a vector of integers", (GivenBatch(name, value),)
        if is_like_batch(name) and not name.endswith("]"):  # not because it is inside a `batch`
            return Found(doubt=words, others=vector)
        return Found(doubt=words, yields=True, vectors=vector)
    if value is None or isinstance(value, int | float | str):
        return _NOTHING
    if isinstance(value, Segments):
        return Found(GivenBatch(name, value))
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
    given = _by_name(value, f"{name}['{{}}']")
    parts = [] if given is None else [Found(given)]
    parts += [_in_fields(value, f"{name}[{{!r}}]")]
    if depth:
        parts += [
            _in(f"{name}[{key!r}]", part, depth - 1)
            for key, part in value.items()
            if not (isinstance(part, Tensor) or key in _BATCHES)
        ]
    return _together(parts)


def _in_object(name: str, value: Any) -> Found:
    kind = type(value).__name__
    if kind in _WITHOUT_BATCH:  # an Adjacency has a `ptr`, of its edges
        return _NOTHING
    batch = _attribute(value, "batch", _ABSENT)
    inside = _in_fields(_fields(value), f"{name}.{{}}")
    given = _by_name({"batch": batch, "ptr": _attribute(value, "ptr")}, f"{name}.{{}}")
    if given is not None:
        return Found(given, others=inside.others)
    by_type = _attribute(value, "batch_dict")  # HeteroData
    if is_batch(by_type):
        offsets = _attribute(value, "ptr_dict") or {}
        sizes = {kind: ptr.shape[0] - 1 for kind, ptr in offsets.items()}
        return Found(GivenBatch(f"{name}.batch_dict", by_type, _held(sizes, by_type)))
    graphs = _attribute(value, "num_graphs")
    if isinstance(graphs, int) and graphs > 1:
        words = f"{name}, a {kind} of {graphs} graphs"
        return inside._replace(doubt=f"{words} with {inside.doubt}" if inside.doubt else words)
    if inside.doubt:
        return inside
    if batch is None or any(_attribute(value, edges) is not None for edges in _OF_EDGES):
        return Found(single=(GivenBatch(name, like=_fields(value).get("x")),))
    return Found(doubt=f"{name}, a {kind}", yields=True)


def _fields(value: Any) -> Mapping[str, Any]:
    """Return the attributes of an object by name."""
    store = _attribute(value, "_store")  # of PyG's Data; the compiler can trace only its mapping
    fields: Mapping[str, Any] = _attribute(store, "_mapping", getattr(value, "__dict__", {}))
    return fields


def _in_fields(fields: Mapping[Any, Any], called: str) -> Found:
    """Find possible batches among attributes or items with other names."""
    tensors = {key: part for key, part in fields.items() if isinstance(part, Tensor)}
    features = [part for part in tensors.values() if part.dim() > 1 and part.is_floating_point()]
    doubts: list[str] = []
    others: list[GivenBatch] = []
    for key, part in tensors.items():
        name, words = str(key), called.format(key)
        if not is_vector(part):
            if name in ("x", "adj", "mask") and _is_dense(name, part):
                doubts.append(f"{words} of {tuple(part.shape)}")
        elif name in _BATCHES:
            continue
        elif is_like_batch(name):
            others.append(GivenBatch(words, part))
            doubts.append(words)
        elif not _is_of_something_else(name) and any(_may_group(part, x) for x in features):
            doubts.append(f"{words}, a vector of integers")
    return Found(doubt=" and ".join(doubts), others=tuple(others))


def _is_dense(name: str, value: Tensor) -> bool:
    """Whether a tensor holds graphs padded to one size."""
    if name.startswith(("edge", "train", "val", "test")):
        return False
    is_mask = value.dtype == torch.bool and value.dim() == 2 and value.shape[0] != value.shape[1]
    return is_mask or (value.dim() > 2 and value.shape[0] != 1)


def _may_group(vector: Any, like: Tensor | None) -> bool:
    """Whether an integer vector may group the rows of a tensor like a sorted batch.

    Such a vector starts at 0, increases in steps of 1, and some rows, but not all, share a number.
    This excludes node ids, classes and the like.
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
    except (KeyError, ValueError):  # raised by HeteroData and Batch
        return default
