"""The hook on a norm: it is given the batch where the model calls it without."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

from graphnorms.dropin.context import Frame, current, size_of
from graphnorms.dropin.slots import Path
from graphnorms.segments import Segments
from graphnorms.tracing import is_traced

_HOW: Final = (
    "give the model, or the part that holds the norm, the batch of these rows, or call it in "
    "`with graphnorms.batch(batch, batch_size):`; if all rows are one graph, "
    "graphnorms.batch(None) says so once, replace_norms(…, single_graph=True) always"
)

_SIZES: Final = ("batch_size", "dim_size")
"""What norms call the number of graphs."""


class Giver:
    """Completes the arguments of a norm.

    Args:
        norm: The norm.
        paths: The ways to it through the model, for errors and to find its node type; several
            where the norm, or a part that holds it, stands in several places.
        per_graph: Whether it has to know which graph a row belongs to.
        positions: Whether features may have more than two dimensions.
        single_graph: Whether rows of which nothing is known are one graph.
    """

    def __init__(
        self, norm: nn.Module, paths: tuple[Path, ...], *, per_graph: bool, positions: bool,
        single_graph: bool,
    ) -> None:  # fmt: skip
        self.paths = paths
        self.name = paths[0].name
        self.title = f"{self.name} ({type(norm).__name__})"
        self.per_graph = per_graph
        self.positions = positions
        self.single_graph = single_graph
        self.had_batch = False
        parameters = list(inspect.signature(norm.forward).parameters)
        sized = len(parameters) > 2 and parameters[2] in _SIZES
        self.takes = () if "batch" not in parameters else ("batch", *parameters[2:3][:sized])

    def again(self, norm: nn.Module) -> Giver:
        """Return one that does the same for another norm."""
        return Giver(
            norm, self.paths, per_graph=self.per_graph, positions=self.positions,
            single_graph=self.single_graph,
        )  # fmt: skip

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
        given = (batch, size)[: len(self.takes)]
        if others:
            return (x, *given, *others), rest
        # By name, so that hooks see the positions that the model gives.
        return (x,), rest | dict(zip(self.takes, given, strict=True))

    def _from_frame(self, frame: Frame | None, x: Tensor) -> tuple[Tensor | Segments | None, Any]:
        if frame is None or frame.missing:
            why = "it was called outside of the model" if frame is None else frame.missing
            if self.single_graph and not (self.had_batch and _in_backward()):
                return None, None
            raise ValueError(f"{self.title} needs the graph of every row, but {why}; {_HOW}")
        batch, held = frame.batch, frame.held_size
        if not (batch is None and frame.ptr is None) and not is_traced():
            self.had_batch = True
        if isinstance(batch, Mapping):
            node_type = self._node_type(batch, frame.name)
            batch = batch[node_type]
            held = held.get(node_type) if isinstance(held, Mapping) else held
        if batch is None:
            if frame.ptr is None:
                return None, None
            batch = self._from_ptr(frame, x)
            self._refuse_others(frame, batch, x)
            return batch, None
        if isinstance(batch, Segments):
            self._refuse_others(frame, batch, x)
            if not is_traced():
                self._check_rows(frame, batch.num_rows, batch.num_segments, x)
                return batch, None
            # Its numbers would be constants to the compiler; the shapes of its tensors are not.
            rows = x.shape[0]
            return Segments(batch.ptr, batch.order, rows, masked=batch.masked), None
        size = size_of(held)
        self._check_rows(frame, batch.shape[0], size, x)
        self._refuse_others(frame, batch, x)
        return batch, size

    def _from_ptr(self, frame: Frame, x: Tensor) -> Segments:
        assert frame.ptr is not None
        if is_traced() or not frame.ptr.is_cpu:
            return Segments.from_ptr(frame.ptr, num_rows=x.shape[0], validate=False)
        segments = Segments.from_ptr(frame.ptr)
        self._check_rows(frame, segments.num_rows, segments.num_segments, x)
        return segments

    def _node_type(self, batch: Mapping[Any, Any], called: str) -> Any:
        """Find the node type whose norm this is: containers by type have it in the name."""
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
            fitting = [name for name, other, like in frame.others if _rows(other, like) == given]
            if fitting:
                what = f"and {' and '.join(fitting)} as many"
        raise ValueError(
            f"{self.title} is given {given} rows and {frame.name} {rows}, {what}; leave it as it "
            f"was, replace_norms(…, where=lambda name, norm: name != {self.name!r}), or have the "
            "model call it with the batch of these rows"
        )

    def _refuse_others(self, frame: Frame, batch: Tensor | Segments, x: Tensor) -> None:
        """Refuse rows that another batch of the same call describes as well, and otherwise."""
        for name, other, like in frame.others:
            if isinstance(other, Mapping):
                types = [kind for path in self.paths for kind in _types_of(path, other)]
                if not types:
                    continue
                other = other[types[0]]
            if _rows(other, like) != x.shape[0] or batch is other:
                continue
            words = (
                f"describe {self.title}'s rows, each in its own way; have the model call the norm, "
                "or the part that holds it, with the batch of these rows, or in "
                "`with graphnorms.batch(batch):`"
            )
            same = _say_the_same(batch, other)
            if is_traced():  # which cannot look: the graph does, when it runs
                torch._assert_async(same, f"{frame.name} and {name} {words}")
            elif not same:
                raise ValueError(f"{frame.name} and {name}, both of {x.shape[0]} rows, {words}")


def withdraw(norm: nn.Module) -> tuple[list[Giver], Callable[[], None]]:
    """Take all hooks of this kind from a norm; return whose they were, and how to put them back."""
    hooks = dict(norm._forward_pre_hooks)
    givers = {key: getattr(hook, "__self__", None) for key, hook in hooks.items()}
    of_givers = {key: giver for key, giver in givers.items() if isinstance(giver, Giver)}
    for key in of_givers:
        del norm._forward_pre_hooks[key]
        del norm._forward_pre_hooks_with_kwargs[key]

    def put_back() -> None:
        norm._forward_pre_hooks.update({key: hooks[key] for key in of_givers})
        norm._forward_pre_hooks_with_kwargs.update(dict.fromkeys(of_givers, True))

    return list(of_givers.values()), put_back


def _in_backward() -> bool:
    """Whether autograd is running: what is called then was called before, by a checkpoint."""
    return bool(ModuleTracker().is_bw)


def _rows(batch: Any, like: Tensor | None) -> int | None:
    """Return how many rows a batch describes; one that is `None`, those of `like`."""
    if batch is None:
        return None if like is None else like.shape[0]
    if isinstance(batch, Segments):
        return batch.num_rows
    return batch.shape[0] if isinstance(batch, Tensor) else None


def _say_the_same(batch: Tensor | Segments, other: Tensor | Segments | None) -> Tensor:
    """Whether two batches of as many rows are the same; `None` says that they are one graph."""
    index, also = (b.index if isinstance(b, Segments) else b for b in (batch, other))
    assert index is not None
    also = torch.zeros_like(index) if also is None else also
    return (index == also.to(index.device)).all()


def _types_of(path: Path, types: Mapping[Any, Any]) -> list[Any]:
    """List the types that the innermost part of a path that is one may be.

    Keys of containers come first: another part may be called like a type by chance.
    """
    for part in (*reversed(path.keys), *reversed(path.name.split("."))):
        found = [kind for kind in types if part in _keys(kind)]
        if found:
            return found
    return []


def _keys(kind: Any) -> set[str]:
    """List what containers of modules make of a type: torch's, PyG's, and those of to_hetero."""
    if isinstance(kind, tuple):
        names = {"__".join(kind), f"<{'___'.join(kind)}>"}
    else:
        names = {str(kind), f"<{kind}>"}
    names |= {name.replace(".", "#") for name in names}
    return names | {re.sub(r"[^\w<>#]", "_", name) for name in names}
