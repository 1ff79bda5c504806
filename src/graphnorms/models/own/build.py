"""Makes a model of the user's own with a normalization, its other weights the same for all."""

from __future__ import annotations

from collections.abc import Callable
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
"""Of the example: neither its number of graphs, 2, nor of edges, 8."""

_OURS: Final = tuple({row.layer for row in CATALOG.values()})
_LAYERS: Final[tuple[type[nn.Module], ...]] = (OwnLayer, *_OURS)


class NormMaker:
    """Makes one normalization, for a factory that takes it as its argument `norm`.

    `norm(64)` is a layer of 64 channels whose `forward(x, batch=None, batch_size=None)` is that
    of every layer of graphnorms.

    Args:
        norm: The normalization as text, or one of the user's own.
    """

    def __init__(self, norm: str | OwnNorm) -> None:
        self._norm = norm
        self.name = norm if isinstance(norm, str) else norm.name

    def __call__(self, channels: int, **arguments: Any) -> nn.Module:
        """Make a layer.

        Args:
            channels: Number of channels.
            arguments: Of the layer, as `graphnorms.make_norm` takes them.

        Raises:
            ValueError: The normalization needs more than the features and the graphs.
        """
        needs = needs_of(self._norm)
        if needs:
            raise ValueError(
                f"the norm {self.name!r} needs {' and '.join(needs)}, which a model of one's own "
                "does not hand on"
            )
        return make_norm(self._norm, channels, **arguments)

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
    """Make a model of the user's own with a normalization.

    The factory is given what it asks for by name:

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

    A factory that takes neither `norm` nor `norm_name` has the norms in its model replaced, see
    `graphnorms.replace_norms`.

    Initial weights are those that the factory draws, and the same for every normalization: it is
    called with random numbers from the seed, and where it is given the norm, once more for
    `"none"`, from which all is taken that both models have but the norms. Layers of graphnorms
    are reset, each with random numbers from the seed and its own name.

    Args:
        config: What is made.
        factory: Makes it.
        norm: The normalization as text, or one of the user's own.
        in_channels, out_channels, edge_channels: As for `GNN`.
        task: The kind of the task.
        seed: Seeds the initial weights. The global random state is not touched.

    Raises:
        ValueError: The factory or the model asks for what there is not, or nothing in the model
            depends on the normalization.
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
        maker = NormMaker(norm)
        values = {**asked, **offered, "norm": maker, "norm_name": maker.name}
        torch.manual_seed(derive_seed(seed, "weights"))
        model = factory(**{name: values[name] for name in asked})
        if not isinstance(model, nn.Module):
            raise ValueError(
                f"{config.name} returns something of type {type(model).__name__}, expected a "
                "torch.nn.Module"
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
        if isinstance(module, _LAYERS):
            initialize(module, derive_seed(seed, name))
    return own.train()


def _run_example(own: OwnModel) -> None:
    """Run a model on two graphs: lazy parameters get their shapes."""
    source = torch.tensor([0, 1, 1, 2, 3, 4, 2, 0])
    adjacency = Adjacency.from_edge_index(torch.stack((source, source.roll(1))), _NODES)
    segments = Segments.from_counts(torch.tensor([3, _NODES - 3]))
    edges = torch.zeros(source.shape[0], own.edge_channels) if own.edge_channels else None
    x = torch.zeros(_NODES, own.in_channels)
    with torch.no_grad():
        own.eval()(x, adjacency, segments, edges)


def _take_weights(own: OwnModel, made: Callable[[str | OwnNorm], OwnModel]) -> None:
    """Take all weights but those of norms from the model without normalization, if there is one."""
    try:
        source = made(_BASELINE).state_dict()
    except Exception:  # it does not run without; other norms shall not suffer
        return
    norms = tuple(f"{name}." for name, part in own.named_modules() if isinstance(part, _LAYERS))
    with torch.no_grad():
        for name, value in own.state_dict().items():
            other = source.get(name)
            alike = isinstance(other, Tensor) and other.shape == value.shape
            if alike and not name.startswith(norms):
                value.copy_(other)


def _replace_norms(own: OwnModel, norm: str | OwnNorm) -> None:
    """Put a normalization in the place of those norms of a model that see its nodes.

    A norm behind the pooling, or one of edges, is no place for statistics of a graph; it stays.

    Raises:
        ValueError: There is none to replace, or one does not say its width.
    """
    of_nodes = _norms_of_nodes(own)

    def own_norm(old: nn.Module) -> nn.Module:
        assert isinstance(norm, OwnNorm)
        known = recognize(old)
        if known is None or known.channels is None:
            raise ValueError(
                f"a {type(old).__name__} in the model of {own.config.name} does not say its "
                f"width, which {norm.name} needs; take the norm as an argument: norm(channels)"
            )
        return norm.layer(known.channels)

    replace_norms(
        own.model, to=norm if isinstance(norm, str) else own_norm,
        where=lambda name, module: id(module) in of_nodes, keep_parameters=False,
    )  # fmt: skip


def _hand_batch(own: OwnModel) -> None:
    """Have the batch reach the layers of graphnorms in a model that calls them without it."""
    for module in own.modules():
        if isinstance(module, OwnLayer):
            module.register_forward_pre_hook(_complete, with_kwargs=True)
    if any(isinstance(module, _OURS) for module in own.modules()):
        replace_norms(
            own.model, to=lambda norm: norm, where=lambda name, norm: isinstance(norm, _OURS),
            keep_parameters=False,
        )  # fmt: skip


def _complete(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Give a layer of the user's own the batch that the model is running on."""
    frame = current()
    if len(args) > 1 or "batch" in kwargs or frame is None:
        return args, kwargs
    return args, {**kwargs, "batch": frame.given.batch}


def _norms_of_nodes(own: OwnModel) -> set[int]:
    """Run a model on a small batch and list the norms that were given a row for every node."""
    found: set[int] = set()

    def look(module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor) and args[0].shape[:1] == (_NODES,):
            found.add(id(module))

    hooks = [
        module.register_forward_pre_hook(look) for module in own.modules() if recognize(module)
    ]
    if not hooks:
        raise ValueError(
            f"the model of {own.config.name} has no norm to replace, and {own.config.name} takes "
            "no norm"
        )
    try:
        _run_example(own)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError(f"no norm in the model of {own.config.name} sees the nodes")
    return found
