"""A normalization with activation and residual sum, in all four orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.errors import unknown_name
from graphnorms.layers import ContraNorm, GraphSizeNorm
from graphnorms.layers.factory import lookup, make_norm, needs_of
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.models.edge_rows import EdgeRows
from graphnorms.segments import Segments

if TYPE_CHECKING:
    from graphnorms.models.attention import Blocks

NORM_PLACES: Final = ("before-activation", "after-activation")
RESIDUAL_PLACES: Final = ("after-norm", "before-norm")

ACTIVATIONS: Final[Mapping[str, Callable[[], nn.Module]]] = MappingProxyType(
    {
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "sigmoid": nn.Sigmoid,
        "tanh": nn.Tanh,
        "identity": nn.Identity,
    }
)
"""The activations by name; modules, so that hooks can observe their inputs."""

_OF_GRAPHS: Final = (ContraNorm, GraphSizeNorm)
"""Layers that depend on the graph without computing its mean or spread."""


@dataclass(frozen=True, slots=True)
class GraphContext:
    """Inputs of the layers of a model besides the features.

    Args:
        adjacency: The edges.
        segments: Which node belongs to which graph.
        types: The type of every node, `(nodes,)` int64, for normalizations per type.
        condition: The condition of every graph, `(graphs, channels)`.
        factors: The subgraph factors of the nodes, `(nodes,)`: see
            `graphnorms.layers.super_norm.subgraph_factors`.
        edge_features: The edge features, `(edges, edge_channels)`, in the edge order of the
            adjacency.
        edge_rows: The edges in the order of their targets, for models that keep a row per edge.
        blocks: The layout of the nodes for attention.
    """

    adjacency: Adjacency
    segments: Segments
    types: Tensor | None = None
    condition: Tensor | None = None
    factors: Tensor | None = None
    edge_features: Tensor | None = None
    edge_rows: EdgeRows | None = None
    blocks: Blocks | None = None

    def of_edges(self) -> GraphContext:
        """Return the inputs of a layer on the edges, one row each, in the order of `edge_rows`.

        An edge has type and factor of its target.
        """
        assert self.edge_rows is not None
        target = self.edge_rows.target
        return GraphContext(
            self.adjacency,
            self.edge_rows.by_graph,
            types=None if self.types is None else self.types[target],
            condition=self.condition,
            factors=None if self.factors is None else self.factors[target],
        )


class NormSlot(nn.Module):
    r"""A normalization with its activation and, at the end of a block, the residual sum.

    `place` and `residual_place` choose among four orders:

    | | residual after the norm | before the norm |
    |---|---|---|
    | norm before the activation | $f(\mathrm{Norm}(x)) + r$ | $f(\mathrm{Norm}(x + r))$ |
    | norm after the activation | $\mathrm{Norm}(f(x)) + r$ | $\mathrm{Norm}(f(x) + r)$ |

    Args:
        norm: The normalization as text: its catalogue name, optionally with arguments after a
            colon; or a user-defined one.
        channels: Width of the features.
        eps: Its ε, if it has one; `None` for the default of the layer.
        place: `"before-activation"` or `"after-activation"`.
        residual_place: `"after-norm"` or `"before-norm"`.
        num_types: Number of node types, for normalizations that need them.
        condition_channels: Width of the condition, for normalizations that need one.
        level: The level of the task, `"graph"` or `"node"`: SuperNorm standardizes rows for
            `"node"`.
        activation: $f$, see `Norm`; with `None`, `place` has no effect.
        of_edges: Whether the rows are edges: the context is that of `GraphContext.of_edges`.

    Raises:
        ValueError: A name is unknown, the normalization refuses its arguments, or it needs the
            neighbours of edges.
    """

    def __init__(
        self,
        norm: str | OwnNorm,
        channels: int,
        *,
        eps: float | None = None,
        place: str = "before-activation",
        residual_place: str = "after-norm",
        num_types: int | None = None,
        condition_channels: int | None = None,
        level: str = "graph",
        activation: str | None = "relu",
        of_edges: bool = False,
    ) -> None:
        super().__init__()
        self.needs = needs_of(norm)
        self.of_edges = of_edges
        if of_edges and "adjacency" in self.needs:
            raise ValueError(
                f"the norm {norm!r} needs adjacency, which edges do not have; normalize them by "
                "another, e.g. edge_norm batch, or by none"
            )
        takes = () if isinstance(norm, OwnNorm) or of_edges else lookup(norm).takes
        self._given = tuple(
            name for name in ("adjacency", "condition", "factors") if name in (*self.needs, *takes)
        )
        arguments: dict[str, Any] = {} if eps is None else {"eps": eps}
        for need, argument, size in (
            ("types", "num_types", num_types),
            ("condition", "condition_channels", condition_channels),
        ):
            if need not in self.needs:
                continue
            if size is None:
                raise ValueError(f"the norm {norm!r} needs {argument}, which is not given")
            arguments[argument] = size
        if "factors" in self.needs:
            arguments["standardize_rows"] = level == "node"
        after_activation, self.sum_first = order_of(place, residual_place)
        self.first: nn.Module | None = None  # the activation, where it is before the norm
        if activation and after_activation:
            self.first = make_activation(activation)
        elif activation:
            arguments["activation"] = activation
        self.norm = make_norm(norm, channels, **arguments)

    def forward(
        self,
        x: Tensor,
        context: GraphContext,
        *,
        source: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        """Normalize and activate the features, and add the residual.

        Args:
            x: The features.
            context: The batch.
            source: The features before the layer, for normalizations of messages.
            residual: Added to the result; has the shape of `x`.
        """
        if self.first is not None:
            x = self.first(x)
        if residual is not None and self.sum_first:
            x, residual = x + residual, None
        given: dict[str, Any] = {"residual": residual}
        first: Tensor | None = x
        second: Tensor | Segments | None = context.segments
        if "types" in self.needs:
            second = context.types
        elif "message" in self.needs:
            first, second = source, x
        for name in self._given:
            given[name] = getattr(context, name)
        y: Tensor = self.norm(first, second, **given)
        return y


NormFactory = Callable[[int], NormSlot]
"""Makes the normalization, with its activation, for a number of channels."""


class PlacedNorm(nn.Module):
    r"""A normalization with an activation and an optional residual sum.

    The orders are those of `NormSlot`, for features of any shape that `norm` accepts and for any
    activation. The activation is a separate module, not fused: a hook on it sees the
    pre-activations.

    Args:
        norm: The normalization.
        activation: The name of $f$, one of `ACTIVATIONS`.
        place: `"before-activation"` or `"after-activation"`.
        residual_place: `"after-norm"` or `"before-norm"`.

    Raises:
        ValueError: A name is unknown.
    """

    def __init__(
        self,
        norm: nn.Module,
        activation: str = "relu",
        *,
        place: str = "before-activation",
        residual_place: str = "after-norm",
    ) -> None:
        super().__init__()
        self.after_activation, self.sum_first = order_of(place, residual_place)
        self.norm = norm
        self.activation = make_activation(activation)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """Normalize and activate `x`, and add the residual, which has its shape."""
        if self.after_activation:
            x = self.activation(x)
        if residual is not None and self.sum_first:
            x, residual = x + residual, None
        x = self.norm(x)
        if not self.after_activation:
            x = self.activation(x)
        return x if residual is None else x + residual


def order_of(place: str, residual_place: str) -> tuple[bool, bool]:
    """Return whether a norm follows the activation, and whether it follows the residual sum.

    Raises:
        ValueError: A name is unknown.
    """
    for kind, given, known in (
        ("norm_place", place, NORM_PLACES),
        ("residual_place", residual_place, RESIDUAL_PLACES),
    ):
        if given not in known:
            raise unknown_name(kind, given, known)
    return place == "after-activation", residual_place == "before-norm"


def make_activation(name: str) -> nn.Module:
    """Build an activation by its name.

    Raises:
        ValueError: The name is unknown.
    """
    if name not in ACTIVATIONS:
        raise unknown_name("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]()


def plain_norm(
    norm: str, channels: int, *, eps: float, rows_only: str | None = None, **arguments: Any
) -> nn.Module:
    """Build a normalization that needs only rows and, optionally, their segments.

    Args:
        norm: The normalization as text: its catalogue name, arguments behind a colon.
        channels: Width of the rows.
        eps: Its ε, if it has one.
        rows_only: Why the model has no segments of several rows, as half a sentence; `None` if it
            has.
        arguments: Passed to the layer.

    Raises:
        ValueError: The norm is unknown or refuses its arguments, needs inputs that only a GNN has,
            or uses statistics over graphs in a model without graphs.
    """
    row = lookup(norm)
    instead = "try 'batch', 'layer' or 'rms'"
    if row.needs:
        needs = " and ".join(row.needs)
        raise ValueError(
            f"the norm {norm!r} needs {needs}, which only a graph neural network has; {instead}"
        )
    if rows_only is not None and (row.segment == "graph" or row.layer in _OF_GRAPHS):
        raise ValueError(f"the norm {norm!r} is over graphs, but {rows_only}; {instead}")
    return make_norm(norm, channels, eps=eps, **arguments)


def check_sizes(**sizes: int) -> None:
    """Refuse a number of channels, layers or heads that is not positive."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is {size}, expected a positive number")
