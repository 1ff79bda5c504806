"""What the arguments of a call say of the batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.adjacency import Adjacency
from graphnorms.dropin.context import Other, is_batch, is_vector
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


def look_through(values: Mapping[str, Any]) -> Found:
    """Find the batch in the arguments of a call: by name, then in objects.

    Args:
        values: The arguments by name.
    """
    found = _by_name(values)
    taken = () if found is None else (*_BATCHES, "ptr", "batch_size")
    parts = [] if found is None else [found]
    parts += [_in(name, value) for name, value in values.items() if name not in taken]
    return _together(parts, pairs=sum(map(_is_of_edges, values)) > 1)


def may_hold_batch(name: str) -> bool:
    """Whether an argument of this name may be, or hold, the batch."""
    return name in (*_BATCHES, *_OF_OBJECTS, "ptr")


def is_like_batch(name: str) -> bool:
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
        if is_like_batch(name) and not name.endswith("]"):  # not for being inside of a `batch`
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
        elif is_like_batch(name):
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
