"""Finds the batch in the arguments of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.dropin.batch_of import GivenBatch, held_size, is_batch, is_vector
from graphnorms.segments import Segments
from graphnorms.tracing import is_traced

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
    held = held_size(size, batch if ptr is None else ptr)
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
        return Found(GivenBatch(f"{name}.batch_dict", by_type, held_size(sizes, by_type)))
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
