"""Which graph every row belongs to, as far as the models that are running have been told."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from graphnorms.segments import Segments

Graphs = Tensor | Segments | Mapping[Any, Any]
"""The graph of every row; of models with node types, the same by type."""


class Other(NamedTuple):
    """A batch that came with the one in use: it may describe the rows of a norm as well."""

    name: str
    batch: Any
    """A vector, a `Segments`, the same by type, or `None` for an object that is one graph."""
    like: Tensor | None = None
    """Of such an object, a tensor with its rows."""


class Frame(NamedTuple):
    """What one call or one `with` says of the batch; a stack of them, innermost first."""

    batch: Graphs | None
    """`None` for one graph, or where `ptr` or `missing` say otherwise."""
    held_size: Any
    """A tensor with as many rows as there are graphs, or the same by type; `None` where nobody
    has said how many. A number that is not an argument would be a constant to `torch.compile`,
    and every other one a reason to compile again."""
    ptr: Tensor | None
    """Offsets of the graphs, where there is no `batch`."""
    missing: str
    """Why nothing is known, in words; empty where something is."""
    owner: object
    """Who has put the frame here, and takes it away."""
    outer: Frame | None
    name: str = "batch"
    """What the batch is called where it was found."""
    others: tuple[Other, ...] = ()
    """Batches that came with it; none counts where one was given by hand."""
    by_hand: bool = False


_stack: Final = threading.local()
"""Its `top` is the innermost frame of this thread.

Not a context variable: `torch.compile` follows what hooks do to a `threading.local`, but not to a
`ContextVar`.
"""


def current() -> Frame | None:
    """Return the innermost frame, `None` outside of all."""
    return getattr(_stack, "top", None)


def prepare() -> None:
    """Have this thread's stack begin to exist, before a compiled call guards on its absence."""
    _stack.top = current()


def push(
    owner: object,
    batch: Graphs | None,
    batch_size: Any = None,
    ptr: Tensor | None = None,
    missing: str = "",
    **more: Any,
) -> None:
    """Put a frame on top; `more` are its other fields."""
    held = _held(batch_size, ptr if ptr is not None else batch)
    _stack.top = Frame(batch, held, ptr, missing, owner, current(), **more)


def size_of(held: Any) -> Any:
    """Return the number of graphs from the tensor that holds it."""
    return None if held is None else held.shape[0]


def _held(size: Any, like: Any) -> Any:
    if isinstance(size, Mapping):
        return {kind: _held(number, like) for kind, number in size.items()}
    if size is None or isinstance(like, Segments):
        return None
    if isinstance(like, Tensor):
        return like.new_empty((size, 0))
    return torch.empty((size, 0))


def repeat(owner: object, others: tuple[Other, ...] = ()) -> None:
    """Put what the innermost frame says on top once more, so that its owner takes away its own.

    Args:
        owner: Who puts it there.
        others: More batches that may be meant, unless it was said by hand which one is.
    """
    top = current()
    if top is not None:
        others = top.others if top.by_hand else (*top.others, *others)
        _stack.top = Frame(*top[:4], owner, top, top.name, others, top.by_hand)


def pop(owner: object) -> None:
    """Take the frame of an owner away, if it is the innermost."""
    top = current()
    if top is not None and top.owner is owner:
        _stack.top = top.outer


def is_vector(value: Any) -> bool:
    """Whether a value is a vector of integers."""
    return (
        isinstance(value, Tensor)
        and value.dim() == 1
        and not value.is_floating_point()
        and value.dtype != torch.bool
    )


def is_batch(value: Any) -> bool:
    """Whether a value can say which graph rows belong to, or does by type."""
    if isinstance(value, Mapping):
        return bool(value) and all(map(is_batch, value.values()))
    return isinstance(value, Segments) or is_vector(value)


class batch:
    """Say by hand which graph every row belongs to, for the norms that `replace_norms` has put in.

    Needed where a model is neither given `batch` nor a `Data` object, or where a part of it is
    called by itself. What a model is given in a call of its own comes first within that call.
    It holds in the thread in which it was entered, until the end of the block, however that comes
    about; blocks nest.

        with graphnorms.batch(data.batch, data.num_graphs):
            out = model.encode(data.x, data.edge_index)

    Args:
        batch: The graph of every row, `(rows,)` integer, or a `Segments`; for a model with node
            types a mapping from the type to either; `None` to say that all rows are one graph.
        batch_size: Number of graphs; of a model with node types one number for all, or by type.

    Raises:
        ValueError: `batch` is none of these.
    """

    def __init__(
        self, batch: Tensor | Segments | Mapping[Any, Any] | None, batch_size: Any = None
    ) -> None:
        for part in batch.values() if isinstance(batch, Mapping) else (batch,):
            if part is not None and not is_batch(part):
                what = f"has type {type(part).__name__}"
                if isinstance(part, Tensor):
                    what = f"is {tuple(part.shape)} of {part.dtype}"
                raise ValueError(
                    f"batch {what}, expected a vector of integers, a "
                    "Segments, a mapping from node types to these, or None for one graph"
                )
        self._batch = batch
        self._batch_size = batch_size

    def __enter__(self) -> None:
        push(self, self._batch, self._batch_size, by_hand=True)

    def __exit__(self, *error: object) -> None:
        pop(self)
