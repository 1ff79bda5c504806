"""Where a normalization stands in a layer: with activation and residual around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.errors import unknown_name
from graphnorms.layers.factory import lookup, make_norm, needs_of
from graphnorms.layers.own import OwnNorm
from graphnorms.segments import Segments

NORM_PLACES: Final = ("before-activation", "after-activation")
RESIDUAL_PLACES: Final = ("after-norm", "before-norm")


@dataclass(frozen=True, slots=True)
class GraphContext:
    """What the layers of a model know of the batch besides the features.

    Args:
        adjacency: The edges.
        segments: Which node belongs to which graph.
        types: The type of every node, `(nodes,)` int64: for normalizations per type.
        condition: What every graph is conditioned on, `(graphs, channels)`.
        factors: The factor of the subgraph around every node, `(nodes,)`: see
            `graphnorms.layers.super_norm.subgraph_factors`.
        edge_features: The features of the edges, `(edges, edge_channels)`, in the order in which
            the adjacency numbers them.
    """

    adjacency: Adjacency
    segments: Segments
    types: Tensor | None = None
    condition: Tensor | None = None
    factors: Tensor | None = None
    edge_features: Tensor | None = None


class NormSlot(nn.Module):
    r"""One normalization with its ReLU and, at the end of a block, the residual sum.

    With `place` and `residual_place` the four orders there are:

    | | residual after the norm | before the norm |
    |---|---|---|
    | norm before the activation | $f(\mathrm{Norm}(x)) + r$ | $f(\mathrm{Norm}(x + r))$ |
    | norm after the activation | $\mathrm{Norm}(f(x)) + r$ | $\mathrm{Norm}(f(x) + r)$ |

    Args:
        norm: The normalization as text: its catalogue name, arguments behind a colon; or one of
            the user's own.
        channels: Width of the features.
        eps: Its ε, where it has one; `None` for the layer's own.
        place: `"before-activation"` or `"after-activation"`.
        residual_place: `"after-norm"` or `"before-norm"`.
        num_types: Number of node types, for normalizations that need them.
        condition_channels: Width of the condition, for normalizations that need one.
        level: Whether the task is about a `"graph"` or a `"node"`: for SuperNorm, whose rows are
            standardized first where it is about nodes.

    Raises:
        ValueError: A name is unknown, or the normalization refuses its arguments.
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
    ) -> None:
        super().__init__()
        for kind, given, known in (
            ("norm_place", place, NORM_PLACES),
            ("residual_place", residual_place, RESIDUAL_PLACES),
        ):
            if given not in known:
                raise unknown_name(kind, given, known)
        self.needs = needs_of(norm)
        takes = () if isinstance(norm, OwnNorm) else lookup(norm).takes
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
        self.after_activation = place == "after-activation"
        self.sum_first = residual_place == "before-norm"
        if not self.after_activation:
            arguments["activation"] = "relu"
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
            source: What the features were made from, for normalizations of messages.
            residual: What is added; of the shape of `x`.
        """
        if self.after_activation:
            x = x.relu()
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
"""Makes the normalization, with its ReLU, of so many channels."""
