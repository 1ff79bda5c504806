"""Keeps the batch of a call for the norms while the call runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.index_checks import described
from graphnorms.segments import Segments

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
        self._frame = Frame(GivenBatch("batch", batch, held_size(batch_size, batch)), by_hand=True)

    def __enter__(self) -> None:
        push(self, self._frame)

    def __exit__(self, *error: object) -> None:
        pop(self)


def held_size(size: Any, like: Any) -> Any:
    """Return a number of graphs as `GivenBatch.held_size` has it.

    Args:
        size: The number, or a mapping by type.
        like: What describes the graphs.
    """
    if isinstance(size, Mapping):
        return {kind: held_size(number, like) for kind, number in size.items()}
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
