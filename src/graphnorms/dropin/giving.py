"""The hook on a norm: it is given the batch where the model calls it without."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphnorms.dropin.context import Frame, current, size_of
from graphnorms.segments import Segments

_HOW = (
    "give the model batch, or call it in `with graphnorms.batch(batch, batch_size):`; if all rows "
    "are one graph, graphnorms.batch(None) says so once, replace_norms(…, single_graph=True) always"
)

_SIZES = ("batch_size", "dim_size")
"""What norms call the number of graphs."""


class Giver:
    """Completes the arguments of a norm.

    Args:
        norm: The norm.
        name: Its qualified name in the model, for errors and to find its node type.
        per_graph: Whether it has to know which graph a row belongs to.
        positions: Whether features may have more than two dimensions.
        single_graph: Whether rows of which nothing is known are one graph.
    """

    def __init__(
        self, norm: nn.Module, name: str, *, per_graph: bool, positions: bool, single_graph: bool
    ) -> None:
        self.name = name
        self.title = f"{name} ({type(norm).__name__})"
        self.per_graph = per_graph
        self.positions = positions
        self.single_graph = single_graph
        parameters = list(inspect.signature(norm.forward).parameters)
        sized = len(parameters) > 2 and parameters[2] in _SIZES
        self.takes = 1 if "batch" not in parameters else 3 if sized else 2

    def attach(self, norm: nn.Module) -> Callable[[], None]:
        """Put the hook on the norm, and return how to take it away."""
        detach: Callable[[], None] = norm.register_forward_pre_hook(
            self.complete, with_kwargs=True
        ).remove
        return detach

    def complete(
        self, norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the norm, whatever way the old one was called."""
        rest = dict(kwargs)
        x, batch, size, *others = (*args, None, None, None)[: max(len(args), 3)]
        x = rest.pop("x", rest.pop("input", None)) if x is None else x
        batch = rest.pop("batch", None) if batch is None else batch
        for name in _SIZES:
            size = rest.pop(name, None) if size is None else size
        if not self.positions and x.dim() != 2:
            raise ValueError(
                f"{self.title} is given {tuple(x.shape)}, expected (nodes, channels): leave it as "
                f"it was, replace_norms(…, where=lambda name, norm: name != {self.name!r})"
            )
        if self.per_graph:
            frame = current()
            if batch is None:
                batch, size = self._from_frame(frame, x)
            elif size is None and frame is not None and frame.batch is batch:
                size = size_of(frame.held_size)
        return (*(x, batch, size)[: self.takes], *others), rest

    def _from_frame(self, frame: Frame | None, x: Tensor) -> tuple[Tensor | Segments | None, Any]:
        if frame is None or frame.missing:
            if self.single_graph:
                return None, None
            why = "it was called outside of the model" if frame is None else frame.missing
            raise ValueError(f"{self.title} needs the graph of every row, but {why}; {_HOW}")
        batch, held = frame.batch, frame.held_size
        if isinstance(batch, Mapping):
            node_type = self._node_type(batch)
            batch = batch[node_type]
            held = held.get(node_type) if isinstance(held, Mapping) else held
        if batch is None:
            return (None, None) if frame.ptr is None else (self._from_ptr(frame.ptr, x), None)
        if isinstance(batch, Segments):
            if not torch.compiler.is_compiling():
                self._check_rows(batch.num_rows, batch.num_segments, x)
                return batch, None
            # Its numbers would be constants to the compiler; the shapes of its tensors are not.
            rows = x.shape[0]
            return Segments(batch.ptr, batch.order, rows, masked=batch.masked), None
        size = size_of(held)
        self._check_rows(batch.shape[0], size, x)
        return batch, size

    def _from_ptr(self, ptr: Tensor, x: Tensor) -> Segments:
        if torch.compiler.is_compiling() or not ptr.is_cpu:
            return Segments.from_ptr(ptr, num_rows=x.shape[0], validate=False)
        segments = Segments.from_ptr(ptr)
        self._check_rows(segments.num_rows, segments.num_segments, x)
        return segments

    def _node_type(self, batch: Mapping[Any, Any]) -> Any:
        """Find the node type whose norm this is: containers by type have it in the name."""
        parts = self.name.split(".")
        for node_type in batch:
            key = "__".join(node_type) if isinstance(node_type, tuple) else str(node_type)
            if key.replace(" ", "_").replace("-", "_").replace(":", "_") in parts:
                return node_type
        raise ValueError(
            f"{self.title} has none of the node types {', '.join(map(str, batch))} in its name, so "
            "which batch is its own is not known; call replace_norms after to_hetero"
        )

    def _check_rows(self, rows: int, size: int | None, x: Tensor) -> None:
        given = x.shape[0]
        if given == rows:
            return
        if size is not None and given == size:
            what = "one per graph: it stands behind the pooling, where a graph is a single row"
        else:
            what = "so these are not the nodes"
        raise ValueError(
            f"{self.title} is given {given} rows and batch {rows}, {what}; leave it as it was, "
            f"replace_norms(…, where=lambda name, norm: name != {self.name!r}), or have the model "
            "call it with the batch of these rows"
        )
