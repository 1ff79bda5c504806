"""The catalogue: the table of all normalizations, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from graphnorms.kernels.point import Point
    from graphnorms.layers.base import Norm


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """One row of the catalogue.

    Args:
        name: The name in the command line and in `make_norm`.
        title: The name in tables and pages.
        class_name: The name of the layer class in `graphnorms.layers`.
        summary: Which entries share a mean and a variance, in words.
        formula: The formula in plain text.
        invariant: Transformations of the features that leave the result unchanged, in words.
        loses: Information that the result no longer contains, in words.
        use: When to use it, in words.
        source: The paper.
        needs: Further required inputs of its forward: `"adjacency"`, `"types"`, `"condition"`,
            `"factors"` (of subgraphs) or `"message"`.
        takes: Optional inputs of its forward.
        arguments: Default arguments of the layer. They make the rows comparable: where possible,
            every normalization has learned parameters per channel.
    """

    name: str
    title: str
    class_name: str
    summary: str
    formula: str
    invariant: str
    loses: str
    use: str
    source: str = ""
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @cached_property
    def layer(self) -> type[Norm]:
        """The layer class, which is imported with torch at first use."""
        from graphnorms import layers

        found: type[Norm] = getattr(layers, self.class_name)
        return found

    def titled(self, arguments: Mapping[str, Any]) -> str:
        """Return the title with arguments of a text: `PairNorm (scale=2)`."""
        words = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()))
        return f"{self.title} ({words})" if words else self.title

    @property
    def point(self) -> Point:
        """The point of the one equation; without centre and scale for a layer that is not a
        point."""
        from graphnorms.kernels.point import Point

        return self.layer.point_with(self.arguments) or Point(None, None)

    @property
    def segment(self) -> str:
        """The rows that share a statistic: `"batch"`, `"graph"`, `"type"` or `"node"`."""
        center, scale, segment, *_ = self.point
        return "" if center is scale is None else segment or "node"


_ROWS: Final = (
    Normalization(
        name="none",
        title="none",
        class_name="Identity",
        summary="nothing: the baseline",
        formula="y = x",
        invariant="nothing",
        loses="nothing",
        use="As the baseline of every comparison; in shallow models on small graphs it may win.",
    ),
    Normalization(
        name="batch",
        title="BatchNorm",
        class_name="BatchNorm",
        summary="each channel over all nodes of the minibatch",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        invariant="shift and scale of each channel over the whole batch",
        loses="the mean and spread of a channel over the batch; keeps differences between graphs",
        use="When the scale of the features distinguishes graphs, with large minibatches: its "
        "statistics are noisy for few or dissimilar graphs.",
        source="Ioffe & Szegedy 2015, arXiv:1502.03167",
    ),
    Normalization(
        name="layer",
        title="LayerNorm",
        class_name="LayerNorm",
        summary="all channels of a node",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        invariant="shift and scale of all channels of a node together",
        loses="the scale of a node's features: after a sum over neighbours, its degree",
        use="In transformers, and when the result of a node must not depend on other nodes.",
        source="Ba et al. 2016, arXiv:1607.06450",
        arguments=MappingProxyType({"mode": "node"}),
    ),
    Normalization(
        name="layer-graph",
        title="LayerNorm (graph)",
        class_name="LayerNorm",
        summary="all nodes and channels of a graph",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        invariant="shift and scale of all features of a graph together",
        loses="the scale of a graph's features; keeps the proportions within it",
        use="As a mild normalization per graph that preserves ratios of channels and nodes.",
        source="Ba et al. 2016; graph mode as in PyG",
        arguments=MappingProxyType({"mode": "graph"}),
    ),
    Normalization(
        name="instance",
        title="InstanceNorm",
        class_name="InstanceNorm",
        summary="each channel over the nodes of a graph",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        invariant="shift and scale of each channel within each graph",
        loses="the mean and spread of a channel in a graph; everything, if all its nodes are equal",
        use="When the differences between the nodes of a graph matter, not their level.",
        source="Ulyanov et al. 2016, arXiv:1607.08022",
        arguments=MappingProxyType({"affine": True}),
    ),
    Normalization(
        name="graph",
        title="GraphNorm",
        class_name="GraphNorm",
        summary="each channel over the nodes of a graph, with a learned share of the mean",
        formula="y = γ (x − α μ) / √(s² + ε) + β,  s² = mean((x − α μ)²)",
        invariant="scale of each channel within each graph; also shift if α = 1",
        loses="the size of a channel that is constant in a graph; also its sign if α = 1",
        use="The first to try on graph-level tasks, especially on molecules.",
        source="Cai et al. 2021, arXiv:2009.03294",
    ),
    Normalization(
        name="pair",
        title="PairNorm",
        class_name="PairNorm",
        summary="the mean per channel and the spread over all channels, over the nodes of a graph",
        formula="y = s (x − μ) / √(ε + mean ‖x − μ‖²)",
        invariant="shift of each channel, and scale of all channels together, within each graph",
        loses="the mean of a graph and the total distance of its nodes; nothing is learned",
        use="Against oversmoothing in deep models for node-level tasks on one graph.",
        source="Zhao & Akoglu 2020, arXiv:1909.12223",
    ),
    Normalization(
        name="mean-subtraction",
        title="MeanSubtractionNorm",
        class_name="MeanSubtractionNorm",
        summary="the mean of each channel over the nodes of a graph; no division",
        formula="y = x − μ",
        invariant="shift of each channel within each graph",
        loses="the mean of a channel in a graph: its sum over the nodes becomes 0",
        use="Against oversmoothing in node-level tasks on one graph. Not before a sum or mean "
        "readout: the result would be 0.",
        source="Yang et al. 2020, arXiv:2003.13663",
    ),
    Normalization(
        name="graph-size",
        title="GraphSizeNorm",
        class_name="GraphSizeNorm",
        summary="no statistic: every node is divided by the root of its graph's size",
        formula="y = x / √n",
        invariant="nothing: it is linear in the features",
        loses="nothing within a graph; graphs of different sizes are scaled differently",
        use="Together with another normalization, when sums grow with the number of nodes.",
        source="Dwivedi et al. 2020, arXiv:2003.00982",
    ),
    Normalization(
        name="message",
        title="MessageNorm",
        class_name="MessageNorm",
        summary="the norm of a message over all channels of a node",
        formula="y = s ‖x‖ m / ‖m‖",
        invariant="scale of each node's message",
        loses="the norm of a message, which becomes that of the node",
        use="On the aggregated messages of deep models, before the node's features are added.",
        source="Li et al. 2020, arXiv:2006.07739",
        needs=("message",),
        arguments=MappingProxyType({"learn_scale": True}),
    ),
    Normalization(
        name="diff-group",
        title="DiffGroupNorm",
        class_name="DiffGroupNorm",
        summary="each channel of each soft group of nodes, over the minibatch",
        formula="y = x + λ Σ_g BN_g(s_g ⊙ x),  s = softmax(x W)",
        invariant="nothing: the features themselves are in the sum",
        loses="nothing: the normalized groups are added to the features",
        use="Against oversmoothing when the nodes of one graph form groups.",
        source="Zhou et al. 2020, arXiv:2006.06972",
        arguments=MappingProxyType({"groups": 8}),
    ),
    Normalization(
        name="hetero-batch",
        title="HeteroBatchNorm",
        class_name="HeteroBatchNorm",
        summary="each channel over all nodes of one type in the minibatch",
        formula="y = γ_T (x − μ_T) / √(σ_T² + ε) + β_T",
        invariant="shift and scale of each channel of a type over the whole batch",
        loses="the mean and spread of a channel of a type over the batch",
        use="When node types have different kinds of features and every type is frequent.",
        source="Ioffe & Szegedy 2015, per type as in PyG",
        needs=("types",),
    ),
    Normalization(
        name="hetero-layer",
        title="HeteroLayerNorm",
        class_name="HeteroLayerNorm",
        summary="all channels of a node, with a weight and bias per type",
        formula="y = γ_T (x − μ) / √(σ² + ε) + β_T",
        invariant="shift and scale of all channels of a node together",
        loses="how large the features of a node are",
        use="When node types have different kinds of features and some types are rare.",
        source="Ba et al. 2016, per type as in PyG",
        needs=("types",),
    ),
    Normalization(
        name="rms",
        title="RMSNorm",
        class_name="RMSNorm",
        summary="the second moment of all channels of a node; no mean",
        formula="y = γ x / √(mean(x²) + ε)",
        invariant="scale of all channels of a node together",
        loses="how large the features of a node are",
        use="Like LayerNorm, when the mean carries information or speed matters.",
        source="Zhang & Sennrich 2019, arXiv:1910.07467",
    ),
    Normalization(
        name="group",
        title="GroupNorm",
        class_name="GroupNorm",
        summary="the channels of a group within a node",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        invariant="shift and scale of each group of channels of a node",
        loses="the scale of each group of features of a node",
        use="When groups of channels have different meanings, like attention heads.",
        source="Wu & He 2018, arXiv:1803.08494",
        arguments=MappingProxyType({"num_groups": 8}),
    ),
    Normalization(
        name="group-graph",
        title="GroupNorm (graph)",
        class_name="GroupNorm",
        summary="the channels of a group over the nodes of a graph",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        invariant="shift and scale of each group of channels within each graph",
        loses="the scale of each group of features of a graph",
        use="Between LayerNorm (graph), one group, and InstanceNorm, a group per channel.",
        source="Wu & He 2018, arXiv:1803.08494",
        arguments=MappingProxyType({"num_groups": 8, "mode": "graph"}),
    ),
    Normalization(
        name="node",
        title="NodeNorm",
        class_name="NodeNorm",
        summary="a root of the spread of all channels of a node; no mean",
        formula="y = x / σ^(1/p)",
        invariant="nothing; for p = 1 scale of all channels of a node together",
        loses="a part of the scale of a node's features, which p determines",
        use="In deep models for node-level tasks, when the variances of the nodes diverge.",
        source="Zhou et al. 2020, arXiv:2006.07107",
    ),
    Normalization(
        name="ada",
        title="AdaNorm",
        class_name="AdaNorm",
        summary="all channels of a node, with a gain that depends on each value",
        formula="y = C (1 − k z) z,  z = (x − μ) / √(σ² + ε), the factor held constant",
        invariant="shift and scale of all channels of a node together",
        loses="the scale of a node's features; nothing is learned",
        use="Like LayerNorm, when its weight and bias overfit.",
        source="Xu et al. 2019, arXiv:1911.07013",
    ),
    Normalization(
        name="power",
        title="PowerNorm",
        class_name="PowerNorm",
        summary="a running second moment of each channel over all nodes; no mean",
        formula="y = γ x / ψ + β,  ψ² a running mean of x²",
        invariant="nothing in a single call: the moment is a running average",
        loses="the scale of a channel over the previous batches",
        use="Like BatchNorm, when batch statistics are too noisy. It uses the moment of each batch "
        "during warm-up: 10000 batches by default, in the lab a tenth of the training steps.",
        source="Shen et al. 2020, arXiv:2003.07845",
    ),
    Normalization(
        name="contra",
        title="ContraNorm",
        class_name="ContraNorm",
        summary="no statistic: similar nodes of a graph repel each other, except neighbours",
        formula="y = (1 + s) x − s softmax(x̂ x̂ᵀ / τ) x,  over nodes that are not neighbours",
        invariant="nothing",
        loses="nothing; the mean of the nodes is kept",
        use="Against oversmoothing; time and memory are quadratic in the nodes of a graph. Without "
        "edges all nodes repel each other, as in transformers; use scale=0.1 there.",
        source="Guo et al. 2023, arXiv:2303.06562",
        takes=("adjacency",),
        # The layer's own default is for transformers.
        arguments=MappingProxyType({"scale": 1.0}),
    ),
    Normalization(
        name="adja",
        title="AdjaNorm",
        class_name="AdjaNorm",
        summary="all channels of a node and its neighbours",
        formula="y = γ (x − μ_N) / √(σ_N² + ε) + β",
        invariant="shift and scale of all features of a graph together",
        loses="the scale of the features of a neighbourhood",
        use="When the difference between a node and its neighbours matters.",
        source="Chen et al. 2020, arXiv:2009.11746",
        needs=("adjacency",),
    ),
    Normalization(
        name="united",
        title="UnitedNorm",
        class_name="UnitedNorm",
        summary="a learned mixture of node, neighbourhood, graph and batch, per channel",
        formula="y = γ (λ_n z_n + λ_a z_a + λ_g z_g + λ_b z_b) + β",
        invariant="shift and scale of all features of the batch together",
        loses="a mixture of what its four parts lose",
        use="To let training choose: the proportions show which part each channel prefers.",
        source="Chen et al. 2020, arXiv:2009.11746",
        needs=("adjacency",),
    ),
    Normalization(
        name="granola",
        title="GRANOLA",
        class_name="Granola",
        summary="all channels of a node, with a weight and bias predicted by a small GNN",
        formula="y = γ_i z + β_i,  z = LayerNorm(x),  (γ, β) = GNN([x, random])",
        invariant="nothing: weight and bias depend on the features",
        loses="nothing that its network can recover; its results are random",
        use="When the task needs structure that message passing misses; costs a second network.",
        source="Eliasof et al. 2024, arXiv:2404.13344",
        needs=("adjacency",),
    ),
    Normalization(
        name="super",
        title="SuperNorm",
        class_name="SuperNorm",
        summary="each channel over the minibatch, calibrated by the subgraph around each node",
        formula="y = ½ (γ + e^w) BatchNorm(x + w' c mean(x)) + β,  c, e of the subgraph",
        invariant="scale of each channel over the whole batch",
        loses="what BatchNorm loses; it adds information about the subgraph",
        use="When nodes have similar features and the structure around them matters.",
        source="Chen et al. 2023, arXiv:2305.19903",
        needs=("factors",),
    ),
    Normalization(
        name="conditional",
        title="ConditionalNorm",
        class_name="ConditionalNorm",
        summary="each channel over the nodes of a graph, with a weight and bias from a condition",
        formula="y = (1 + Δγ_g) (x − μ) / √(σ² + ε) + β_g,  (Δγ, β) = W c + b",
        invariant="shift and scale of each channel within each graph",
        loses="what InstanceNorm loses; the condition replaces it",
        use="When each graph has a vector to condition on: a class, a time, a temperature. With "
        "per=node every node has its own: conditional:center=node,scale=node,per=node.",
        source="De Vries et al. 2017; Peebles & Xie 2023",
        needs=("condition",),
    ),
    Normalization(
        name="qk",
        title="QKNorm",
        class_name="QKNorm",
        summary="the channels of an attention head within a node",
        formula="y = γ (x − μ) / √(σ² + ε) + β,  γ and β the same for every head",
        invariant="shift and scale of each head of a node; for rms and l2 its scale",
        loses="how large the queries or keys of a node are: products depend on directions",
        use="On queries and keys of attention, one layer for each: qk:kind=rms,heads=4.",
        source="Henry et al. 2020, arXiv:2010.04245; Dehghani et al. 2023, arXiv:2302.05442",
        arguments=MappingProxyType({"heads": 8}),
    ),
    Normalization(
        name="dyt",
        title="DyT",
        class_name="DyT",
        summary="no statistic: a tanh of each entry, its slope learned",
        formula="y = γ tanh(α x) + β",
        invariant="nothing; beyond the bend of the tanh nearly the scale of each entry",
        loses="how large an entry is once α |x| is well above 1; keeps the scale of small ones, "
        "and the degree in it",
        use="In place of LayerNorm or RMSNorm, where a result must not depend on other entries: "
        "rows near zero stay near zero. α sets the scale; begin with α of about 1 / the size of x.",
        source="Zhu et al. 2025, arXiv:2503.10622",
    ),
    Normalization(
        name="derf",
        title="Derf",
        class_name="Derf",
        summary="no statistic: an erf of each entry, its slope and shift learned",
        formula="y = γ erf(α x + s) + β",
        invariant="nothing; beyond the bend of the erf nearly the scale of each entry",
        loses="how large an entry is once |α x + s| is above 2, sooner than DyT",
        use="Like DyT; its authors report better results with it than with DyT.",
        source="Chen et al. 2025, arXiv:2512.10938",
    ),
    Normalization(
        name="custom",
        title="CustomNorm",
        class_name="CustomNorm",
        summary="any domain for the mean and any for the spread; by default those of InstanceNorm",
        formula="y = γ (x − α μ) / √(s² + ε) + β,  s² = mean((x − α μ)²)",
        invariant="by default shift and scale of each channel in each graph",
        loses="depends on the domains",
        use="To try any point of the equation: custom:center=graph,scale=node.",
    ),
)

CATALOG: Final[Mapping[str, Normalization]] = MappingProxyType({row.name: row for row in _ROWS})
