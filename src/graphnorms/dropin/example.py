"""What the norms of a model are given, found out by calling it once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from graphnorms.dropin.context import Frame, current
from graphnorms.dropin.finding import Finder, watch
from graphnorms.dropin.slots import Standing
from graphnorms.segments import Segments


@dataclass(frozen=True)
class Seen:
    """What a norm was given in one call.

    Args:
        shape: The shape of the features.
        nodes: How many rows the batch has, by type where there are types; empty if one graph.
        graphs: How many graphs there are, where that is known.
    """

    shape: tuple[int, ...]
    nodes: tuple[int, ...]
    graphs: int | None

    def reason(self, *, per_graph: bool) -> str:
        """Say why a norm that takes nodes and channels cannot stand there; empty if it can."""
        if len(self.shape) != 2:
            return f"it is given {self.shape}, not (nodes, channels)"
        rows = self.shape[0]
        if not per_graph or not self.nodes or rows in self.nodes:
            return ""
        if rows == self.graphs:
            return "it stands behind the pooling: a graph is one row there, with nothing in it"
        return f"it is given {rows} rows, and the batch has {' + '.join(map(str, self.nodes))}"


def call_once(model: nn.Module, example: Any, norms: list[Standing]) -> dict[int, list[Seen]]:
    """Call a model in `eval()`, without gradients, and note what its norms are given.

    Args:
        model: The model, as it is.
        example: A tuple of its arguments, a mapping of arguments by name, or its one argument.
        norms: The norms to watch.

    Returns:
        What was seen in every call, by the id of the norm.
    """
    if isinstance(example, DataLoader):
        raise ValueError("example is a DataLoader, expected what it gives: next(iter(loader))")
    args, kwargs = arguments_of(example)
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(
            f"example does not fit {type(model).__name__}.forward{signature}: {error}; expected a "
            "tuple of its arguments, a mapping by name, or its one argument"
        ) from None
    seen: dict[int, list[Seen]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("x", kwargs.get("input"))
        if isinstance(x, Tensor):
            seen.setdefault(id(module), []).append(Seen(tuple(x.shape), *_sizes(current())))

    detach = [watch(model, Finder(model, model.forward, root=True))]
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
    return seen


def arguments_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and named arguments of a call given as an example."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return (tuple(example) if isinstance(example, tuple | list) else (example,)), {}


def _sizes(frame: Frame | None) -> tuple[tuple[int, ...], int | None]:
    if frame is None or (frame.batch is None and frame.ptr is None):
        return (), None
    if frame.batch is None:
        assert frame.ptr is not None
        return (int(frame.ptr[-1]),), frame.ptr.shape[0] - 1
    batches = list(frame.batch.values()) if isinstance(frame.batch, Mapping) else [frame.batch]
    graphs = max(_graphs_in(batch) for batch in batches)
    return tuple(map(_rows_in, batches)), graphs


def _rows_in(batch: Tensor | Segments) -> int:
    return batch.num_rows if isinstance(batch, Segments) else batch.shape[0]


def _graphs_in(batch: Tensor | Segments) -> int:
    if isinstance(batch, Segments):
        return batch.num_segments
    return int(batch.max()) + 1 if batch.shape[0] else 0
