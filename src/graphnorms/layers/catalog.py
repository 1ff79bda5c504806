"""The catalogue: one row per normalization, the one table in which they are looked up."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from torch import nn

from graphnorms.errors import unknown_name
from graphnorms.kernels import Over
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.graph_norm import GraphNorm
from graphnorms.layers.identity import Identity
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.layer_norm import LayerNorm
from graphnorms.layers.spec import format_spec, parse_spec


@dataclass(frozen=True)
class Normalization:
    """One row of the catalogue.

    Args:
        name: What the command line and `make_norm` take.
        title: What tables and pages print.
        layer: The class.
        summary: What shares a mean and a variance, in words.
        segment: Whose statistics: `"batch"`, `"graph"`, `"node"` or `""`.
        center, scale: The point of the one equation, where it is one.
        source: The paper.
        arguments: What the layer is built with unless told otherwise. They make the rows
            comparable: every normalization has learned parameters per channel.
        needs: What its forward takes besides features and graphs: `"adjacency"`, `"types"`,
            `"condition"` or `"message"`.
        invariant: What may be done to the features without a change of the result, in words.
        loses: What the result no longer tells, in words.
        use: When to use it, in words.
    """

    name: str
    title: str
    layer: type[nn.Module]
    summary: str
    segment: str
    center: Over | None
    scale: Over | None
    source: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    needs: tuple[str, ...] = ()
    invariant: str = ""
    loses: str = ""
    use: str = ""


_ROWS: Final = (
    Normalization(
        "none", "none", Identity, "nothing: the baseline", "", None, None, "",
    ),
    Normalization(
        "batch", "BatchNorm", BatchNorm, "each channel over all nodes of the minibatch",
        "batch", Over.NODES, Over.NODES, "Ioffe & Szegedy 2015, arXiv:1502.03167",
    ),
    Normalization(
        "layer", "LayerNorm", LayerNorm, "all channels of a node",
        "node", Over.CHANNELS, Over.CHANNELS, "Ba et al. 2016, arXiv:1607.06450",
        MappingProxyType({"mode": "node"}),
    ),
    Normalization(
        "layer-graph", "LayerNorm (graph)", LayerNorm, "all nodes and channels of a graph",
        "graph", Over.BOTH, Over.BOTH, "Ba et al. 2016; graph mode as in PyG",
        MappingProxyType({"mode": "graph"}),
    ),
    Normalization(
        "instance", "InstanceNorm", InstanceNorm, "each channel over the nodes of a graph",
        "graph", Over.NODES, Over.NODES, "Ulyanov et al. 2016, arXiv:1607.08022",
        MappingProxyType({"affine": True}),
    ),
    Normalization(
        "graph", "GraphNorm", GraphNorm,
        "each channel over the nodes of a graph, with a learned share of the mean",
        "graph", Over.NODES, Over.NODES, "Cai et al. 2021, arXiv:2009.03294",
    ),
)  # fmt: skip

CATALOG: Final[Mapping[str, Normalization]] = MappingProxyType({row.name: row for row in _ROWS})


def names() -> list[str]:
    """List the names of the normalizations, in the order of the catalogue."""
    return list(CATALOG)


def lookup(norm: str) -> Normalization:
    """Find the row of a normalization given as text.

    Arguments behind a colon, `"pair:scale=2"`, go into the arguments, the name and the title of
    the row returned; the name is then the same text for the same arguments in any order.

    Raises:
        ValueError: There is none of that name, or it has no such argument; the message has the
            nearest ones.
    """
    name, arguments = parse_spec(norm)
    row = CATALOG.get(name)
    if row is None:
        raise unknown_name("norm", name, CATALOG)
    if not arguments:
        return row
    known = [key for key in inspect.signature(row.layer).parameters if key not in _TAKEN]
    for key in arguments:
        if key not in known:
            raise unknown_name(f"argument of {name}", key, known)
    merged = {**row.arguments, **arguments}
    words = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()))
    return replace(
        row, name=format_spec(name, arguments), title=f"{row.title} ({words})", arguments=merged
    )


_TAKEN: Final = ("in_channels", "activation", "dropout", "backend", "device", "dtype")
"""What a text cannot set: the model that the normalization stands in decides it."""


def make_norm(norm: str, in_channels: int, **arguments: Any) -> nn.Module:
    """Build a normalization given as text.

    Args:
        norm: Its name in the catalogue, e.g. `"graph"`, with arguments behind a colon if there
            are any: `"pair:scale=2"`.
        in_channels: Number of channels; not handed to a layer that does not ask for it.
        arguments: Handed to the layer, over the row's own defaults and under those of the text.
            `eps` is dropped for a layer that has none.

    Raises:
        ValueError: There is no normalization of that name, or it refuses its arguments.
        TypeError: The layer does not take one of the arguments.
    """
    row = lookup(norm)
    known = inspect.signature(row.layer).parameters
    if "eps" not in known:
        arguments.pop("eps", None)
    given = {**row.arguments, **arguments, **parse_spec(norm)[1]}
    if "in_channels" in known:
        given["in_channels"] = in_channels
    return row.layer(**given)
