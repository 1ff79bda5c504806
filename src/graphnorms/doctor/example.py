"""Calls a model on a batch that a user gave, in whatever form."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.dropin.batch_of import batch as known_batch
from graphnorms.dropin.batch_of import is_vector, segments_of
from graphnorms.dropin.batch_search import look_through
from graphnorms.dropin.call_once import require_fit
from graphnorms.dropin.call_watch import parameters_of
from graphnorms.errors import one_line
from graphnorms.segments import Segments

_POSITIONS: Final = ("pos", "positions", "coords", "coordinates", "xyz")
_EDGES: Final = ("edge_index", "adjacency")
_STEP: Final = "training_step"


@dataclass(frozen=True, eq=False)
class Example:
    """A call of a model on one batch.

    Args:
        args, kwargs: The arguments.
        method: The method that is called.
        values: What is known of the batch by name: its arguments, or the attributes of an object.
        segments: The graphs of the nodes, if they are known besides the arguments.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    values: Mapping[str, Any]
    method: str = "forward"
    segments: Segments | None = None

    def run(self, model: nn.Module) -> Any:
        """Call the model.

        Raises:
            ValueError: It raised an exception, which the message names.
        """
        known = self.segments
        within = contextlib.nullcontext() if known is None else known_batch(known)
        called: Any = model if self.method == "forward" else getattr(model, self.method)
        try:
            with within:
                return called(*self.args, **self.kwargs)
        except Exception as error:
            mode = "train()" if model.training else "eval()"
            raise ValueError(
                f"{type(model).__name__} raised in {mode}, on the batch: {one_line(error)}"
            ) from error

    @property
    def edge_index(self) -> Tensor | None:
        """The edges, `(2, edges)`, if they are known."""
        for name in _EDGES:
            value = self.values.get(name)
            if isinstance(value, Adjacency):
                return value.to_edge_index()
            if isinstance(value, Tensor) and value.dim() == 2 and value.shape[0] == 2:
                return value
        return None

    @property
    def masks(self) -> list[Tensor]:
        """Boolean tensors, which may tell nodes from padding."""
        return [
            value
            for name, value in self.values.items()
            if isinstance(value, Tensor)
            and value.dtype == torch.bool
            and not name.startswith(("train", "val", "test"))
        ]

    @property
    def positions(self) -> str:
        """The name of the positions of the nodes in space; empty if the model gets none."""
        given = (*self.args, *self.kwargs.values())
        for name in _POSITIONS:
            value = self.values.get(name)
            is_there = any(part is value or _attributes(part).get(name) is value for part in given)
            if isinstance(value, Tensor) and value.is_floating_point() and is_there:
                return name if value.shape[1:] == (3,) else ""
        return ""

    def moved(self, rotation: Tensor) -> Example:
        """Return the call with all positions rotated by a matrix, `(3, 3)`."""
        name = self.positions
        old: Tensor = self.values[name]
        new = old @ rotation.to(old).T

        def put(value: Any) -> Any:
            if value is old:
                return new
            if getattr(value, name, None) is old:
                value = copy.copy(value)
                setattr(value, name, new)
            elif isinstance(value, Mapping) and value.get(name) is old:
                return {**value, name: new}
            return value

        return replace(
            self,
            args=tuple(map(put, self.args)),
            kwargs={key: put(value) for key, value in self.kwargs.items()},
        )


def examples_of(model: nn.Module, batch: Any, most: int) -> list[Example]:
    """Return the calls of a model on batches.

    Args:
        model: The model.
        batch: An `Example`; an object of PyG; a tuple of the model's arguments; a mapping of them
            by name; or a list, a `DataLoader` or another iterable of any of these.
        most: The number of batches that are taken of an iterable.

    Raises:
        ValueError: There is none, or it does not fit the arguments of the model.
    """
    several = (
        isinstance(batch, Iterable)
        and not isinstance(batch, Tensor | tuple | Mapping | str)
        and not _is_graph(batch)
    )
    found = list(islice(batch, most)) if several else [batch]
    if not found:
        raise ValueError("batch holds no batch, expected one or more")
    return [each if isinstance(each, Example) else _example(model, each) for each in found]


def _is_graph(value: Any) -> bool:
    return hasattr(value, "edge_index") or hasattr(value, "num_nodes")


def _example(model: nn.Module, batch: Any) -> Example:
    names, takes_others = parameters_of(model.forward)
    if is_lightning(model):
        step = getattr(model, _STEP, None)
        count = len(parameters_of(step)[0]) if step is not None else 0
        if count:
            args = (batch, 0)[:count]
            return Example(args, {}, _attributes(batch), _STEP, _segments(batch))
    if isinstance(batch, Mapping) and (takes_others or set(batch) <= set(names)):
        return _bound(model, (), batch)
    if isinstance(batch, tuple):
        return _bound(model, batch, {})
    required = [
        name
        for name, parameter in inspect.signature(model.forward).parameters.items()
        if parameter.default is parameter.empty and name in names
    ]
    values = _attributes(batch)
    if isinstance(batch, Tensor) or not values or not set(required) & set(values):
        return _bound(model, (batch,), {}, _segments(batch))
    missing = [name for name in required if values.get(name) is None]
    if missing:
        raise ValueError(
            f"the forward of {type(model).__name__} takes {', '.join(required)}, and the batch, a "
            f"{type(batch).__name__}, has no {' and no '.join(missing)}"
        )
    given = {name: values[name] for name in names if values.get(name) is not None}
    return Example((), given, {**values, **given}, segments=_segments(batch))


def _bound(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    segments: Segments | None = None,
) -> Example:
    """Check that arguments fit the model, and name them."""
    require_fit("batch", model, args, kwargs, "an object with them, or a list of these")
    named = {**dict(zip(parameters_of(model.forward)[0], args, strict=False)), **kwargs}
    inside = {key: part for value in named.values() for key, part in _attributes(value).items()}
    return Example(args, kwargs, {**inside, **named}, segments=segments)


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an object or a mapping holds, by name."""
    if isinstance(value, Tensor | str | int | float) or value is None:
        return {}
    if isinstance(value, Mapping):
        return {key: part for key, part in value.items() if isinstance(key, str)}
    if isinstance(value, tuple | list):
        return {key: part for each in value for key, part in _attributes(each).items()}
    to_dict = getattr(value, "to_dict", None)  # of PyG's
    found = to_dict() if callable(to_dict) else getattr(value, "__dict__", {})
    extra = {name: getattr(value, name, None) for name in ("batch", "ptr", "num_graphs")}
    return {**{k: v for k, v in extra.items() if v is not None}, **dict(found)}


def _segments(value: Any) -> Segments | None:
    """Return the graphs that an object describes, if it has them under their usual names."""
    found = look_through({"data": value}).given
    if found is None or not (found.ptr is not None or is_vector(found.batch)):
        return None
    return segments_of(found)[0]


def is_lightning(model: nn.Module) -> bool:
    """Whether a model is a LightningModule."""
    return any(base.__name__ == "LightningModule" for base in type(model).__mro__)
