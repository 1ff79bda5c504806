"""The catalogue: one row per normalization, the one table in which they are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from torch import nn

from graphnorms.kernels import Over
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.graph_norm import GraphNorm
from graphnorms.layers.identity import Identity
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.layer_norm import LayerNorm


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """One row of the catalogue.

    Args:
        name: What the command line and `make_norm` take.
        title: What tables and pages print.
        layer: The class.
        summary: What shares a mean and a variance, in words.
        formula: The formula in plain text.
        segment: Whose statistics: `"batch"`, `"graph"`, `"type"`, `"node"` or `""`.
        center, scale: The point of the one equation, where it is one; both `None` where the
            layer is composed of other operations, or normalizes nothing.
        groups: Whether channels are taken in groups.
        invariant: What may be done to the features without a change of the result, in words.
        loses: What the result no longer tells, in words.
        use: When to use it, in words.
        source: The paper.
        needs: What its forward takes besides features and graphs: `"adjacency"`, `"types"`,
            `"condition"` or `"message"`.
        arguments: What the layer is built with unless told otherwise. They make the rows
            comparable: every normalization has learned parameters per channel.
    """

    name: str
    title: str
    layer: type[nn.Module]
    summary: str
    formula: str
    segment: str = ""
    center: Over | None = None
    scale: Over | None = None
    groups: bool = False
    invariant: str
    loses: str
    use: str
    source: str = ""
    needs: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


_ROWS: Final = (
    Normalization(
        name="none",
        title="none",
        layer=Identity,
        summary="nothing: the baseline",
        formula="y = x",
        invariant="nothing",
        loses="nothing",
        use="As the baseline of every comparison; in shallow models on small graphs it may win.",
    ),
    Normalization(
        name="batch",
        title="BatchNorm",
        layer=BatchNorm,
        summary="each channel over all nodes of the minibatch",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        segment="batch",
        center=Over.NODES,
        scale=Over.NODES,
        invariant="shift and scale of each channel over the whole batch",
        loses="the mean and spread of a channel over the batch; keeps what tells graphs apart",
        use="When graphs differ by how large their features are, and minibatches are large: its "
        "statistics are noisy on few or unlike graphs.",
        source="Ioffe & Szegedy 2015, arXiv:1502.03167",
    ),
    Normalization(
        name="layer",
        title="LayerNorm",
        layer=LayerNorm,
        summary="all channels of a node",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        segment="node",
        center=Over.CHANNELS,
        scale=Over.CHANNELS,
        invariant="shift and scale of all channels of a node together",
        loses="how large the features of a node are: after a sum over neighbours, its degree",
        use="In transformers, and wherever nodes must not see each other or the batch.",
        source="Ba et al. 2016, arXiv:1607.06450",
        arguments=MappingProxyType({"mode": "node"}),
    ),
    Normalization(
        name="layer-graph",
        title="LayerNorm (graph)",
        layer=LayerNorm,
        summary="all nodes and channels of a graph",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        segment="graph",
        center=Over.BOTH,
        scale=Over.BOTH,
        invariant="shift and scale of all features of a graph together",
        loses="how large the features of a graph are; keeps the proportions within it",
        use="As a mild normalization per graph that keeps channels and nodes comparable.",
        source="Ba et al. 2016; graph mode as in PyG",
        arguments=MappingProxyType({"mode": "graph"}),
    ),
    Normalization(
        name="instance",
        title="InstanceNorm",
        layer=InstanceNorm,
        summary="each channel over the nodes of a graph",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        segment="graph",
        center=Over.NODES,
        scale=Over.NODES,
        invariant="shift and scale of each channel within each graph",
        loses="the mean and spread of a channel in a graph; where all nodes are alike, everything",
        use="When what counts is how nodes differ within their graph.",
        source="Ulyanov et al. 2016, arXiv:1607.08022",
        arguments=MappingProxyType({"affine": True}),
    ),
    Normalization(
        name="graph",
        title="GraphNorm",
        layer=GraphNorm,
        summary="each channel over the nodes of a graph, with a learned share of the mean",
        formula="y = γ (x − α μ) / √(s² + ε) + β,  s² = mean((x − α μ)²)",
        segment="graph",
        center=Over.NODES,
        scale=Over.NODES,
        invariant="scale of each channel within each graph; shift too where α = 1",
        loses="the size of a channel that is constant in a graph; its sign is kept where α ≠ 1",
        use="The first to try on sets of graphs, molecules above all.",
        source="Cai et al. 2021, arXiv:2009.03294",
    ),
)

CATALOG: Final[Mapping[str, Normalization]] = MappingProxyType({row.name: row for row in _ROWS})
