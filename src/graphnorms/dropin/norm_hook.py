"""The hook that passes the batch to a norm whose model does not."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

from graphnorms.dropin.batch_of import (
    Frame,
    current,
    rows_of,
    size_of,
)
from graphnorms.dropin.call_watch import Detach
from graphnorms.dropin.known_norms import Path, is_per_graph
from graphnorms.segments import Segments
from graphnorms.tracing import assert_async, is_traced

_SIZES: Final = ("batch_size", "dim_size")
"""Names of the argument for the number of graphs."""

_HOW: Final = (
    "give the model, or the part that holds the norm, the batch of these rows, or call it in "
    "`with graphnorms.batch(batch, batch_size):`; if all rows are one graph, "
    "graphnorms.batch(None) says so once, replace_norms(…, single_graph=True) always"
)


class NormHook:
    """The hook on a norm: adds the batch to its arguments if the model does not pass it.

    Args:
        norm: The norm.
        paths: The paths to it in the model, for errors and to find its node type; several if the
            norm or a module that contains it is used several times.
        positions: Whether features may have more than two dimensions.
        single_graph: Whether to treat rows without a known batch as one graph.
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
        """Register the hook; return the function that removes it."""
        detach: Detach = norm.register_forward_pre_hook(self.complete, with_kwargs=True).remove
        return detach

    def complete(
        self, norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Complete the arguments of the norm, in any form that the old norm accepted."""
        rest = dict(kwargs)
        x, batch, size, *others = (*args, None, None, None)[: max(len(args), 3)]
        x = rest.pop("x", rest.pop("input", None)) if x is None else x
        batch = rest.pop("batch", None) if batch is None else batch
        for name in _SIZES:
            size = rest.pop(name, None) if size is None else size
        if not self.positions and x.dim() != 2:
            raise ValueError(
                f"{self.title} is given {tuple(x.shape)}, expected (nodes, channels): keep the "
                f"old norm by {self.leaving}"
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
        # By name, so that hooks see the positional arguments of the model.
        return (x,), rest | dict(zip(self.takes, given, strict=True))

    def _from_frame(self, frame: Frame | None, x: Tensor) -> tuple[Tensor | Segments | None, Any]:
        if frame is None or frame.missing:
            why = "it was called outside of the model" if frame is None else frame.missing
            # During the backward, activation checkpointing repeats earlier calls.
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
            # Its ints would be constants for the compiler; the shapes of its tensors are not.
            batch = Segments(batch.ptr, batch.order, x.shape[0], masked=batch.masked)
        return batch, size

    def _node_type(self, batch: Mapping[Any, Any], called: str) -> Any:
        """Find the node type of the norm in its path, where containers by type put it."""
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
            what = "one per graph: it is applied after the pooling, where a graph is a single row"
        else:
            what = "so these are not the nodes"
            fitting = [o.name for o in frame.others if rows_of(o.batch, o.like) == given]
            if fitting:
                what = f"and {' and '.join(fitting)} as many"
        raise ValueError(
            f"{self.title} is given {given} rows and {frame.given.name} {rows}, {what}; keep "
            f"the old norm by {self.leaving}, or have the model pass the batch of these rows"
        )

    def _refuse_others(self, frame: Frame, batch: Tensor | Segments, x: Tensor) -> None:
        """Refuse rows that another batch of the same call assigns to different graphs."""
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
            if is_traced():  # the check runs in the compiled graph
                assert_async(same, f"{frame.given.name} and {name} {words}")
            elif not same:
                raise ValueError(
                    f"{frame.given.name} and {name}, both of {x.shape[0]} rows, {words}"
                )


def withdraw(norm: nn.Module) -> tuple[list[NormHook], Detach]:
    """Remove the `NormHook`s of a norm; return them, and a function that restores them."""
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
    """Whether two batches with equally many rows are equal; `None` is one graph."""
    index, also = (b.index if isinstance(b, Segments) else b for b in (batch, other))
    also = torch.zeros_like(index) if also is None else also
    return (index == also.to(index.device)).all()


def _types_of(path: Path, types: Mapping[Any, Any]) -> list[Any]:
    """List the types named by the innermost part of a path that names any.

    Keys of containers take precedence: other parts may equal the name of a type by chance.
    """
    for part in (*reversed(path.keys), *reversed(path.name.split("."))):
        found = [kind for kind in types if part in _keys(kind)]
        if found:
            return found
    return []


def _keys(kind: Any) -> set[str]:
    """List the keys under which torch, PyG and `to_hetero` store the module of a type."""
    if isinstance(kind, tuple):
        names = {"__".join(kind), f"<{'___'.join(kind)}>"}
    else:
        names = {str(kind), f"<{kind}>"}
    names |= {name.replace(".", "#") for name in names}
    return names | {re.sub(r"[^\w<>#]", "_", name) for name in names}
