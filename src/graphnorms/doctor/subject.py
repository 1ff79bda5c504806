"""A model and its batches by name, as the command line takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.data import GraphSet, from_pyg
from graphnorms.data.load import result_of
from graphnorms.data.pyg_list import to_pyg
from graphnorms.doctor.example import Example, is_lightning
from graphnorms.errors import DatasetError, GraphnormsError, one_line
from graphnorms.lab.options import Options
from graphnorms.lab.sources import load_source
from graphnorms.models.own import OwnModelConfig, call_with, inputs_of, values_of
from graphnorms.training.checkpoints import load_weights
from graphnorms.user_code import as_spec, find, is_spec, no_exit

BATCHES: Final = 8
"""Batches that are read."""

_SIZES: Final = ("in_channels", "out_channels", "edge_channels", "edge_dim", "task", "level")
_STATES: Final = ("state_dict", "model_state_dict", "model")
_PREFIXES: Final = ("module.", "_orig_mod.", "model.")


class Given(NamedTuple):
    """Data as a user named them."""

    name: str
    graphs: GraphSet | None
    """`None` for batches that are no graph set."""
    batches: Sequence[Any]
    """The batches that the user's function returns; empty where there are `graphs`."""


def read_data(data: str, options: Options, size: int) -> Given:
    """Read data by name.

    Args:
        data: As `graphnorms.compare` takes it. A `module:factory` may also return a loader of
            batches, or PyG's `Data` with whatever the model takes.
        options: How they are read.
        size: Graphs of a batch.

    Raises:
        ValueError: They cannot be read.
    """
    spec = as_spec(data)
    if not is_spec(spec) or Path(data).exists():
        return Given(data, load_source(data, options.reading).graphs, ())
    result = result_of(spec)
    if isinstance(result, GraphSet):
        return Given(data, result, ())
    if not isinstance(result, Iterable):
        raise DatasetError(
            f"{data} returns something of type {type(result).__name__}, expected a GraphSet, a "
            "list of PyG Data, or a loader of batches"
        )
    items = list(islice(result, BATCHES * size))
    if not items:
        raise DatasetError(f"{data} returns nothing, expected graphs or batches")
    if not _is_data(items[0]):
        return Given(data, None, items[:BATCHES])
    from torch_geometric.data import Batch

    parts = [items[i : i + size] for i in range(0, len(items), size)]
    batches = [Batch.from_data_list(part) for part in parts]
    try:
        graphs = from_pyg(items, data, **options.reading)
    except GraphnormsError:  # not of features and targets; the model may not need them
        graphs = None
    return Given(data, graphs, batches)


def _is_data(value: Any) -> bool:
    """Whether a value is PyG's `Data` of one graph; `Batch` is a subclass."""
    return hasattr(value, "edge_index") and not hasattr(value, "ptr")


def make_model(model: str, given: Given, options: Options, norm: str) -> nn.Module:
    """Import a model, or make it.

    Args:
        model: `module:name`: a model, its class, or a function that makes it, see
            `graphnorms.models.build_own`.
        given: The data, which say how many features there are.
        options: Its sizes.
        norm: The normalization for a function that takes one.

    Raises:
        ValueError: It does not exist, takes unknown arguments, or makes something else.
    """
    spec = as_spec(model)
    if not is_spec(spec):
        raise ValueError(f"{model!r} is no module:name of a model, its class, or what makes it")
    found = find(spec, "a model")
    if isinstance(found, nn.Module):
        return found
    return _made(spec, found, given, options, norm)


def _made(
    spec: str, factory: Callable[..., Any], given: Given, options: Options, norm: str
) -> nn.Module:
    graphs = given.graphs
    config = OwnModelConfig(
        name=spec,
        source="",
        layers=options.layers,
        hidden=options.hidden,
        dropout=options.dropout,
        head="graph" if graphs is None else graphs.task.level,
    )
    asked = config.asked_of(factory)
    offered: dict[str, Any] = {}
    if graphs is not None:
        edges = graphs.num_edge_features
        sizes = (graphs.num_features, graphs.num_outputs, edges, edges or None)
        values = (*sizes, graphs.task.kind, graphs.task.level)
        offered = dict(zip(_SIZES, values, strict=True))
    elif missing := [name for name in _SIZES if name in asked]:
        raise ValueError(
            f"{spec} takes {', '.join(missing)}, which {given.name} does not tell; name a function "
            "without these arguments that makes the model"
        )
    try:
        with no_exit(spec), torch.random.fork_rng(devices=[]):
            model = call_with(asked, factory, norm, offered, seed=0)
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f"{spec} raised {one_line(error)}") from error
    if isinstance(model, tuple) and model:  # with its data
        model = model[0]
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{spec} returns something of type {type(model).__name__}, expected a torch.nn.Module"
        )
    return model


def batches_of(model: nn.Module, given: Given, size: int) -> Any:
    """Return batches of a number of graphs for a model, as `graphnorms.inspect` takes them."""
    if given.batches:
        return list(given.batches)
    assert given.graphs is not None
    graphs = given.graphs
    order = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(0))
    parts = order[: BATCHES * size].split(size)
    if is_lightning(model):
        from torch_geometric.data import Batch

        single = to_pyg(graphs)
        return [Batch.from_data_list([single[i] for i in part.tolist()]) for part in parts]
    names, by_position = inputs_of(model, type(model).__name__, graphs.num_edge_features)
    return [_example(names, by_position, graphs, part) for part in parts]


def _example(names: tuple[str, ...], by_position: bool, graphs: GraphSet, ids: Tensor) -> Example:
    batch = graphs.batch(ids)
    values = values_of(names, batch.x, batch.adjacency, batch.segments, batch.edge_features)
    args, kwargs = (tuple(values.values()), {}) if by_position else ((), values)
    edges = {"edge_index": batch.adjacency.to_edge_index()}
    return Example(args, kwargs, edges | values, segments=batch.segments)


def load_checkpoint(model: nn.Module, file: str) -> None:
    """Load the state of a model from a file, which runs no code.

    Args:
        model: The model.
        file: What `torch.save(model.state_dict(), file)` wrote, a checkpoint of Lightning, or
            `.safetensors`.

    Raises:
        GraphnormsError: The file cannot be read.
        ValueError: It has no state, or one that does not fit.
    """
    state = _state_in(Path(file))
    known = model.state_dict()
    for prefix in _PREFIXES:  # of what wrapped the model
        if state and all(name.startswith(prefix) for name in state) and not set(state) & set(known):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    problems = [
        f"{word} {_few(names)}"
        for word, names in (
            ("it has no", [name for name in known if name not in state]),
            ("the model has no", [name for name in state if name not in known]),
            (
                "shapes differ:",
                [
                    f"{name} {tuple(state[name].shape)}, in the model {tuple(value.shape)}"
                    for name, value in known.items()
                    if name in state and getattr(value, "shape", ()) != state[name].shape
                ],
            ),
        )
        if names
    ]
    if problems:
        raise ValueError(f"{file} does not fit {type(model).__name__}: {'; '.join(problems)}")
    model.load_state_dict(state)


def _state_in(path: Path) -> dict[str, Tensor]:
    found: Any = load_weights(path)
    for name in _STATES:
        if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
            found = found[name]
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(f"{path} has no state of a model, expected tensors by name")
    return dict(found)


def _few(names: Sequence[str], few: int = 2) -> str:
    rest = len(names) - few
    return ", ".join(names[:few]) + (f" and {rest} more" if rest > 0 else "")
