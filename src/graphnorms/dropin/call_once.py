"""Calls a model once on an example, to record the inputs of its norms."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from graphnorms.dropin.batch_of import (
    Frame,
    current,
    segments_of,
)
from graphnorms.dropin.call_watch import CallWatch
from graphnorms.dropin.known_norms import KnownNorm


class NormCall(NamedTuple):
    """The input of a norm in one call."""

    shape: tuple[int, ...]
    """The shape of the features."""
    nodes: tuple[int, ...]
    """Number of rows of the batch, one per node type; empty for one graph."""
    graphs: int | None
    """Number of graphs, if known."""

    def reason(self, *, per_graph: bool) -> str:
        """Return why a norm of (nodes, channels) cannot be used there; empty if it can."""
        if len(self.shape) != 2:
            return f"its input is {self.shape}, not (nodes, channels)"
        rows = self.shape[0]
        if not per_graph or not self.nodes or rows in self.nodes:
            return ""
        if rows == self.graphs:
            return "it is applied after the pooling, where a graph is a single row"
        return f"its input has {rows} rows, but the batch has {' + '.join(map(str, self.nodes))}"


def call_once(model: nn.Module, example: Any, norms: list[KnownNorm]) -> dict[int, list[NormCall]]:
    """Call a model in `eval()`, without gradients, and record the inputs of its norms.

    Args:
        model: The model.
        example: A tuple of its arguments, a mapping by name, or its only argument.
        norms: The norms to watch.

    Returns:
        The calls of every norm, by its id.
    """
    args, kwargs = arguments_of(model, example)
    calls: dict[int, list[NormCall]] = {}

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else kwargs.get("x", kwargs.get("input"))
        if isinstance(x, Tensor):
            calls.setdefault(id(module), []).append(NormCall(tuple(x.shape), *_sizes(current())))

    detach = [CallWatch(model, root=True).attach(model)]
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
    return calls


def arguments_of(model: nn.Module, example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments that an example of them means.

    Args:
        model: The model.
        example: A tuple of its arguments, a mapping by name, or its only argument.

    Raises:
        ValueError: It is a loader, or does not fit the model.
    """
    if isinstance(example, DataLoader):
        raise ValueError("example is a DataLoader, expected a batch; use next(iter(loader))")
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example, Mapping):
        kwargs = dict(example)
    else:
        args = tuple(example) if isinstance(example, tuple | list) else (example,)
    require_fit("example", model, args, kwargs, "or its only argument")
    return args, kwargs


def _sizes(frame: Frame | None) -> tuple[tuple[int, ...], int | None]:
    """Return the number of rows of a frame's batch, by type, and the number of graphs."""
    segments = segments_of((frame or Frame()).given)
    if not segments:
        return (), None
    return tuple(part.num_rows for part in segments), max(part.num_segments for part in segments)


def require_fit(
    what: str, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], others: str
) -> None:
    """Refuse arguments that the forward of a model does not take.

    Args:
        what: What they were given as.
        model, args, kwargs: The call.
        others: What may be given beside a tuple and a mapping, in words.

    Raises:
        ValueError: They do not fit.
    """
    signature = inspect.signature(model.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(
            f"{what} does not fit {type(model).__name__}.forward{signature}: {error}; expected a "
            f"tuple of its arguments, a mapping by name, {others}"
        ) from None
