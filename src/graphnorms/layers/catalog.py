"""The catalogue: one row per normalization, the one table in which they are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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


def lookup(name: str) -> Normalization:
    """Find a row by its name.

    Raises:
        ValueError: There is none of that name; the message has the nearest ones.
    """
    row = CATALOG.get(name)
    if row is None:
        raise unknown_name("norm", name, CATALOG)
    return row


def make_norm(name: str, in_channels: int, **arguments: Any) -> nn.Module:
    """Build a normalization by its name.

    Args:
        name: Its name in the catalogue, e.g. `"graph"`.
        in_channels: Number of channels.
        arguments: Handed to the layer, over the row's own defaults. `eps` is dropped for
            `"none"`, which has no use for it.

    Raises:
        ValueError: There is no normalization of that name, or it refuses its arguments.
        TypeError: The layer does not take one of the arguments.
    """
    row = lookup(name)
    if row.layer is Identity:
        arguments.pop("eps", None)
    return row.layer(in_channels, **{**row.arguments, **arguments})
