"""User-defined models: the factory, the configuration, and a wrapper with the call of `GNN`."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.dropin import batch
from graphnorms.errors import unknown_name
from graphnorms.models.model_config import HEADS, ModelConfig
from graphnorms.segments import Segments
from graphnorms.user_code import UserFunction, is_spec

NORM_ARGUMENTS: Final = ("norm", "norm_name")
OFFERED: Final = (
    "in_channels",
    "out_channels",
    "edge_channels",
    "edge_dim",
    "task",
    "level",
    *NORM_ARGUMENTS,
)
"""Arguments that a factory may take by name, besides its sizes."""

_SIZES: Final = {
    "hidden": "hidden",
    "hidden_channels": "hidden",
    "layers": "layers",
    "num_layers": "layers",
    "dropout": "dropout",
}
_DEFAULTS: Final = ModelConfig(name="gin")

INPUTS: Final = (
    "x",
    "edge_index",
    "edge_attr",
    "edge_features",
    "batch",
    "batch_size",
    "num_graphs",
    "num_nodes",
    "ptr",
    "segments",
    "adjacency",
    "data",
)
"""Arguments that a `forward` may take by name; see `docs/own.md`."""

_OF_EDGES: Final = ("edge_attr", "edge_features")


@dataclass(frozen=True, kw_only=True)
class ModelFactory(UserFunction):
    """A function that makes a model."""

    @classmethod
    def of(cls, model: str | Callable[..., Any]) -> Self:
        """Find a factory by its name, or wrap a function or class.

        Raises:
            ValueError: It does not exist, or its source cannot be read.
        """
        return cls._of(model, "a model")


@dataclass(frozen=True, kw_only=True)
class OwnModelConfig:
    """The configuration of a user-defined model, apart from its normalization.

    Args:
        name, source: Those of the `ModelFactory`.
        layers, hidden, dropout: Passed to the factory if not None.
        head: `"graph"`: one output per graph; `"node"`: one per node.

    Raises:
        ValueError: The head is unknown.
    """

    name: str
    source: str
    layers: int | None = None
    hidden: int | None = None
    head: str = "graph"
    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise unknown_name("head", self.head, HEADS)

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data; `OwnModelConfig(**data)` reads it back."""
        data = asdict(self)
        if self.dropout is None:  # as before there was the choice: such runs can be continued
            del data["dropout"]
        return data

    def asked_of(self, factory: Callable[..., Any]) -> dict[str, Any]:
        """List the arguments of a factory, with the values that are known here.

        Raises:
            ValueError: It has unknown arguments, or lacks an argument for a chosen size.
        """
        sizes = {"hidden": self.hidden, "layers": self.layers, "dropout": self.dropout}
        taken = set[str]()
        asked: dict[str, Any] = {}
        for name, parameter in inspect.signature(factory).parameters.items():
            if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                continue
            required = parameter.default is parameter.empty
            size = _SIZES.get(name)
            if size is not None:
                taken.add(size)
                if required or sizes[size] is not None:
                    chosen = sizes[size]
                    asked[name] = getattr(_DEFAULTS, size) if chosen is None else chosen
            elif name in OFFERED:
                asked[name] = None
            elif required:
                raise ValueError(
                    f"{self.name} has the argument {name!r}, expected some of "
                    f"{', '.join((*OFFERED, *_SIZES))}"
                )
        for size, value in sizes.items():
            if value is not None and size not in taken:
                raise ValueError(f"{size} is {value}, but {self.name} takes no {size}")
        return asked

    def find(self) -> Callable[..., Any]:
        """Import the factory by its name.

        Raises:
            ValueError: The name is unknown, or the source has changed.
        """
        if not is_spec(self.name):
            raise ValueError(
                f"the model {self.name} was made by a function in memory; pass this function"
            )
        found = ModelFactory.of(self.name)
        found.require_source(self.source)
        return found.function


class OwnModel(nn.Module):
    """A user-defined model with the call of `graphnorms.models.GNN`.

    Args:
        model: The model.
        config: Its configuration.
        in_channels, out_channels, edge_channels: As for `GNN`.

    Raises:
        ValueError: Its `forward` has unknown arguments, or it has no parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        config: OwnModelConfig,
        in_channels: int,
        out_channels: int,
        edge_channels: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.edge_channels = edge_channels
        self._inputs, self._by_position = inputs_of(model, config.name, edge_channels)
        if next(self.parameters(), None) is None:
            raise ValueError(f"the model of {config.name} has no parameters, nothing to train")

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the model."""
        return next(each.dtype for each in self.parameters() if each.is_floating_point())

    def forward(
        self,
        x: Tensor,
        adjacency: Adjacency,
        segments: Segments,
        edge_features: Tensor | None = None,
        factors: Tensor | None = None,
    ) -> Tensor:
        """Return the output of the model, `(graphs, out_channels)` or `(nodes, out_channels)`.

        Args:
            x, adjacency, segments, edge_features: As for `GNN`.
            factors: Not used.

        Raises:
            ValueError: The output has another shape.
        """
        given = values_of(self._inputs, x, adjacency, segments, edge_features)
        with batch(segments):  # for norms that the model calls without the batch
            output = self.model(*given.values()) if self._by_position else self.model(**given)
        rows = segments.num_segments if self.config.head == "graph" else x.shape[0]
        return self._checked(output, rows)

    def num_parameters(self) -> int:
        """Count the parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _checked(self, output: Any, rows: int) -> Tensor:
        name, expected = self.config.name, (rows, self.out_channels)
        if not isinstance(output, Tensor):
            raise ValueError(
                f"the model of {name} gives something of type {type(output).__name__}, expected a "
                f"tensor of shape {expected}"
            )
        if output.shape == (rows,) and self.out_channels == 1:
            return output.unsqueeze(1)
        if output.shape != expected:
            graphs = self.config.head == "graph"
            raise ValueError(
                f"the model of {name} gives a tensor of shape {tuple(output.shape)} for {rows} "
                f"{'graphs' if graphs else 'nodes'}, expected {expected}"
                f"{'; does it pool the nodes of each graph?' if graphs else ''}"
            )
        return output


def inputs_of(model: nn.Module, name: str, edge_channels: int) -> tuple[tuple[str, ...], bool]:
    """Determine the inputs of a model's `forward`.

    Args:
        model: The model.
        name: Its name in messages.
        edge_channels: Features of an edge.

    Returns:
        Names from `INPUTS` in the order of the parameters, and whether to pass them by position. A
        single parameter gets the data, regardless of its name.

    Raises:
        ValueError: It has unknown arguments, or needs edge features that do not exist.
    """
    described = getattr(getattr(model, "signature", None), "param_dict", None)
    if described is not None:  # torch_geometric.nn.Sequential
        asked = list(described)
        return _known(asked, asked, name, edge_channels), True
    forward = getattr(model, "_orig_mod", model).forward  # unwraps torch.compile
    parameters = inspect.signature(forward).parameters.values()
    others = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = [each for each in parameters if each.kind not in others]
    required = [each.name for each in named if each.default is each.empty]
    if len(required) == 1 and required[0] != "x":
        return ("data",), True
    if not named:
        raise ValueError(
            f"the forward of {name} has no named inputs, expected some of {', '.join(INPUTS)}"
        )
    by_position = any(each.kind is each.POSITIONAL_ONLY for each in named)
    asked = [each.name for each in named if not by_position or each.name in required]
    return _known(asked, required, name, edge_channels), by_position


def _known(asked: list[str], required: list[str], name: str, edge_channels: int) -> tuple[str, ...]:
    """Return the available inputs, or raise an error for a required one that is missing."""
    there = [each for each in INPUTS if edge_channels or each not in _OF_EDGES]
    for each in required:
        if each in there:
            continue
        if each in INPUTS:
            raise ValueError(f"the forward of {name} needs {each}, but edges have no features")
        raise ValueError(
            f"the forward of {name} has the input {each!r}, expected some of {', '.join(INPUTS)}"
        )
    return tuple(each for each in asked if each in there)


def values_of(
    names: tuple[str, ...],
    x: Tensor,
    adjacency: Adjacency,
    segments: Segments,
    edge_features: Tensor | None,
) -> dict[str, Any]:
    """Return the inputs of these names; expensive ones are computed only if requested."""
    makers: dict[str, Callable[[], Any]] = {
        "x": lambda: x,
        "edge_index": adjacency.to_edge_index,
        "edge_attr": lambda: edge_features,
        "edge_features": lambda: edge_features,
        "batch": segments.as_batch,
        "batch_size": lambda: segments.num_segments,
        "num_graphs": lambda: segments.num_segments,
        "num_nodes": lambda: x.shape[0],
        "ptr": lambda: segments.ptr,
        "segments": lambda: segments,
        "adjacency": lambda: adjacency,
        "data": lambda: _data(x, adjacency, segments, edge_features),
    }
    return {name: makers[name]() for name in names}


def _data(x: Tensor, adjacency: Adjacency, segments: Segments, edge_features: Tensor | None) -> Any:
    """Return a PyG `Batch`; if PyG is not installed, an object with the same attributes."""
    fields: dict[str, Any] = {
        "x": x,
        "edge_index": adjacency.to_edge_index(),
        "edge_attr": edge_features,
        "batch": segments.as_batch(),
        "ptr": segments.ptr,
    }
    if importlib.util.find_spec("torch_geometric") is None:
        count = segments.num_segments
        return SimpleNamespace(**fields, batch_size=count, num_graphs=count, num_nodes=x.shape[0])
    from torch_geometric.data import Batch

    return Batch(**fields)
