"""Builds a user-defined model with a normalization; its other weights do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from graphnorms.adjacency import Adjacency
from graphnorms.dropin import replace_norms
from graphnorms.dropin.batch_of import current
from graphnorms.dropin.known_norms import recognize
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.factory import make_norm, needs_of
from graphnorms.layers.own_norm import OwnLayer, OwnNorm
from graphnorms.models.initialize import derive_seed, initialize
from graphnorms.models.own.model import NORM_ARGUMENTS, OwnModel, OwnModelConfig
from graphnorms.segments import Segments

_BASELINE: Final = "none"
_NODES: Final = 5
"""Nodes of the example; differs from its numbers of graphs, 2, and edges, 8."""

_OURS: Final = tuple({row.layer for row in CATALOG.values()})
NORM_LAYERS: Final[tuple[type[nn.Module], ...]] = (OwnLayer, *_OURS)


class NormMaker:
    """Makes layers of one normalization, for a factory with an argument `norm`.

    `norm(64)` is a layer of 64 channels with the `forward(x, batch=None, batch_size=None)` of every
    layer of graphnorms.

    Args:
        norm: The normalization as text, or a user-defined one.
    """

    def __init__(self, norm: str | OwnNorm) -> None:
        self._norm = norm
        self.name = norm if isinstance(norm, str) else norm.name

    def __call__(self, channels: int, **arguments: Any) -> nn.Module:
        """Make a layer.

        Args:
            channels: Number of channels.
            arguments: Arguments of the layer, see `graphnorms.make_norm`.

        Raises:
            ValueError: The normalization needs more inputs than features and graphs.
        """
        self.require_usable()
        return make_norm(self._norm, channels, **arguments)

    def require_usable(self) -> None:
        """Raise a `ValueError` if the normalization needs more than features and graphs."""
        needs = needs_of(self._norm)
        if needs:
            raise ValueError(
                f"the norm {self.name!r} needs {' and '.join(needs)}, which a user-defined model "
                "does not pass on; choose another"
            )

    def __str__(self) -> str:
        return self.name


def build_own(
    config: OwnModelConfig,
    factory: Callable[..., Any],
    norm: str | OwnNorm,
    in_channels: int,
    out_channels: int,
    *,
    edge_channels: int = 0,
    task: str,
    seed: int,
) -> OwnModel:
    """Build a user-defined model with a normalization.

    The factory gets the arguments that it names:

    | argument | value |
    |---|---|
    | `in_channels` | features of a node |
    | `out_channels` | results per item |
    | `edge_channels`, `edge_dim` | features of an edge; 0, or None as in PyG, if there are none |
    | `norm` | a `NormMaker`: `norm(channels)` makes the layer |
    | `norm_name` | the normalization as text |
    | `task` | `"classification"`, `"binary"` or `"regression"` |
    | `level` | `"graph"` or `"node"`: what an item is |
    | `hidden`, `hidden_channels` | what was asked for, else its own default, else 64 |
    | `layers`, `num_layers` | what was asked for, else its own default, else 4 |
    | `dropout` | what was asked for, else its own default, else 0.5 |

    If a factory takes neither `norm` nor `norm_name`, the norms in its model are replaced, see
    `graphnorms.replace_norms`.

    The factory draws the initial weights, and they are equal for every normalization: it is called
    with a seeded generator and, if it takes the norm, once more with `"none"`; all weights except
    those of norms are copied from the latter model. Layers of graphnorms are reset, each with a
    seed derived from its name.

    Args:
        config: The configuration of the model.
        factory: Makes the model.
        norm: The normalization as text, or one of the user's own.
        in_channels, out_channels, edge_channels: As for `GNN`.
        task: The kind of the task.
        seed: Seed of the initial weights. The global random state does not change.

    Raises:
        ValueError: The factory or the model has unknown arguments, or nothing in the model depends
            on the normalization.
    """
    asked = config.asked_of(factory)
    offered: dict[str, Any] = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "edge_channels": edge_channels,
        "edge_dim": edge_channels or None,
        "task": task,
        "level": config.head,
    }

    def made(norm: str | OwnNorm) -> OwnModel:
        model = call_with(asked, factory, norm, offered, seed)
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"{config.name} returns something of type {type(model).__name__}, expected a "
                "torch.nn.Module"
            )
        if any(base.__name__ == "LightningModule" for base in type(model).__mro__):
            raise ValueError(
                f"{config.name} returns a LightningModule, expected one that is annotated, to be "
                "trained by Lightning: def make(…) -> LightningModule"
            )
        own = OwnModel(model, config, in_channels, out_channels, edge_channels)
        if any(isinstance(parameter, UninitializedParameter) for parameter in own.parameters()):
            _run_example(own)
        return own

    with torch.random.fork_rng(devices=[]):
        own = made(norm)
        if {*asked}.isdisjoint(NORM_ARGUMENTS):
            _replace_norms(own, norm)
        elif norm != _BASELINE:
            _take_weights(own, made)
            _hand_batch(own)
    for name, module in own.named_modules():
        if isinstance(module, NORM_LAYERS):
            initialize(module, derive_seed(seed, name))
    return own.train()


def call_with(
    asked: Mapping[str, Any],
    factory: Callable[..., Any],
    norm: str | OwnNorm,
    offered: Mapping[str, Any],
    seed: int,
) -> Any:
    """Call a factory with the arguments that it names; draws from torch's generator, seeded.

    Args:
        asked: Its arguments, see `OwnModelConfig.asked_of`.
        factory: The factory.
        norm: The normalization.
        offered: Further values by name.
        seed: Seed of the initial weights.
    """
    maker = NormMaker(norm)
    values = {**asked, **offered, "norm": maker, "norm_name": maker.name}
    torch.manual_seed(derive_seed(seed, "weights"))
    return factory(**{name: values[name] for name in asked})


def _run_example(own: OwnModel) -> None:
    """Run a model on two graphs, which initializes lazy parameters."""
    source = torch.tensor([0, 1, 1, 2, 3, 4, 2, 0])
    adjacency = Adjacency.from_edge_index(torch.stack((source, source.roll(1))), _NODES)
    segments = Segments.from_counts(torch.tensor([3, _NODES - 3]))
    edges = torch.zeros(source.shape[0], own.edge_channels) if own.edge_channels else None
    x = torch.zeros(_NODES, own.in_channels)
    with torch.no_grad():
        own.eval()(x, adjacency, segments, edges)


def _take_weights(own: OwnModel, made: Callable[[str | OwnNorm], OwnModel]) -> None:
    """Copy all weights except those of norms from the model without normalization, if possible."""
    try:
        source = made(_BASELINE).state_dict()
    except Exception:  # it needs a norm; keep the weights drawn
        return
    norms = tuple(f"{name}." for name, part in own.named_modules() if isinstance(part, NORM_LAYERS))
    with torch.no_grad():
        for name, value in own.state_dict().items():
            other = source.get(name)
            alike = isinstance(other, Tensor) and other.shape == value.shape
            if alike and not name.startswith(norms):
                value.copy_(other)


def _replace_norms(own: OwnModel, norm: str | OwnNorm) -> None:
    """Replace the norms of a model that are applied to nodes.

    Norms after the pooling or of edges are kept: statistics of a graph make no sense there.

    Raises:
        ValueError: There is none to replace, or its number of channels is unknown.
    """
    of_nodes = _norms_of_nodes(own)

    def own_norm(old: nn.Module) -> nn.Module:
        assert isinstance(norm, OwnNorm)
        known = recognize(old)
        if known is None or known.channels is None:
            raise ValueError(
                f"a {type(old).__name__} in the model of {own.config.name} has no number of "
                f"channels, which {norm.name} needs; take the norm as an argument: norm(channels)"
            )
        return norm.layer(known.channels)

    replace_norms(
        own.model,
        to=norm if isinstance(norm, str) else own_norm,
        where=lambda name, module: id(module) in of_nodes,
        keep_parameters=False,
    )


def _hand_batch(own: OwnModel) -> None:
    """Pass the batch to the layers of graphnorms in a model that does not."""
    for module in own.modules():
        if isinstance(module, OwnLayer):
            module.register_forward_pre_hook(_complete, with_kwargs=True)
    if any(isinstance(module, _OURS) for module in own.modules()):
        replace_norms(
            own.model,
            to=lambda norm: norm,
            where=lambda name, norm: isinstance(norm, _OURS),
            keep_parameters=False,
        )


def _complete(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Pass the current batch to a user-defined layer."""
    frame = current()
    if len(args) > 1 or "batch" in kwargs or frame is None:
        return args, kwargs
    return args, {**kwargs, "batch": frame.given.batch}


def _norms_of_nodes(own: OwnModel) -> set[int]:
    """Run a model on a small batch and return the norms that got one row per node."""
    found: set[int] = set()

    def record(module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor) and args[0].shape[:1] == (_NODES,):
            found.add(id(module))

    hooks = [
        module.register_forward_pre_hook(record) for module in own.modules() if recognize(module)
    ]
    if not hooks:
        raise ValueError(
            f"the model of {own.config.name} has no norm to replace; use norms in it, or take norm "
            "as an argument"
        )
    try:
        _run_example(own)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError(f"no norm in the model of {own.config.name} is applied to nodes")
    return found
