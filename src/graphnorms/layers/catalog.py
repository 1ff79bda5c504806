"""The catalogue: one row per normalization, the one table in which they are looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from graphnorms.kernels.point import Point
from graphnorms.layers.ada_norm import AdaNorm
from graphnorms.layers.adja_norm import AdjaNorm
from graphnorms.layers.base import Norm
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.conditional_norm import ConditionalNorm
from graphnorms.layers.contra_norm import ContraNorm
from graphnorms.layers.custom_norm import CustomNorm
from graphnorms.layers.diff_group_norm import DiffGroupNorm
from graphnorms.layers.granola import Granola
from graphnorms.layers.graph_norm import GraphNorm
from graphnorms.layers.graph_size_norm import GraphSizeNorm
from graphnorms.layers.group_norm import GroupNorm
from graphnorms.layers.hetero_batch_norm import HeteroBatchNorm
from graphnorms.layers.hetero_layer_norm import HeteroLayerNorm
from graphnorms.layers.identity import Identity
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.layer_norm import LayerNorm
from graphnorms.layers.mean_subtraction_norm import MeanSubtractionNorm
from graphnorms.layers.message_norm import MessageNorm
from graphnorms.layers.node_norm import NodeNorm
from graphnorms.layers.pair_norm import PairNorm
from graphnorms.layers.power_norm import PowerNorm
from graphnorms.layers.rms_norm import RMSNorm
from graphnorms.layers.super_norm import SuperNorm
from graphnorms.layers.united_norm import UnitedNorm


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """One row of the catalogue.

    Args:
        name: What the command line and `make_norm` take.
        title: What tables and pages print.
        layer: The class.
        summary: What shares a mean and a variance, in words.
        formula: The formula in plain text.
        invariant: What may be done to the features without a change of the result, in words.
        loses: What the result no longer tells, in words.
        use: When to use it, in words.
        source: The paper.
        needs: What its forward takes besides features and graphs: `"adjacency"`, `"types"`,
            `"condition"`, `"factors"` (of subgraphs) or `"message"`.
        takes: What its forward makes use of where it is given.
        arguments: What the layer is built with unless told otherwise. They make the rows
            comparable: every normalization has learned parameters per channel.
    """

    name: str
    title: str
    layer: type[Norm]
    summary: str
    formula: str
    invariant: str
    loses: str
    use: str
    source: str = ""
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def point(self) -> Point:
        """The point of the one equation; without centre and scale where the layer is none."""
        return self.layer.point_with(self.arguments) or Point(None, None)

    @property
    def segment(self) -> str:
        """The rows that share a statistic: `"batch"`, `"graph"`, `"type"` or `"node"`."""
        center, scale, segment, _ = self.point
        return "" if center is scale is None else segment or "node"


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
        invariant="scale of each channel within each graph; shift too where α = 1",
        loses="the size of a channel that is constant in a graph; its sign too where α = 1",
        use="The first to try on sets of graphs, molecules above all.",
        source="Cai et al. 2021, arXiv:2009.03294",
    ),
    Normalization(
        name="pair",
        title="PairNorm",
        layer=PairNorm,
        summary="the mean per channel, the spread over all channels, over the nodes of a graph",
        formula="y = s (x − μ) / √(ε + mean ‖x − μ‖²)",
        invariant="shift of each channel, and scale of all channels together, within each graph",
        loses="the mean of a graph and how far its nodes are apart in all; nothing is learned",
        use="Against oversmoothing in deep models for the nodes of one graph.",
        source="Zhao & Akoglu 2020, arXiv:1909.12223",
    ),
    Normalization(
        name="mean-subtraction",
        title="MeanSubtractionNorm",
        layer=MeanSubtractionNorm,
        summary="the mean of each channel over the nodes of a graph; nothing is divided",
        formula="y = x − μ",
        invariant="shift of each channel within each graph",
        loses="the mean of a channel in a graph: its sum over the nodes becomes 0",
        use="Against oversmoothing, for the nodes of one graph. Not before a sum or mean readout, "
        "which it makes 0.",
        source="Yang et al. 2020, arXiv:2003.13663",
    ),
    Normalization(
        name="graph-size",
        title="GraphSizeNorm",
        layer=GraphSizeNorm,
        summary="nothing measured: every node is divided by the root of the graph's size",
        formula="y = x / √n",
        invariant="nothing: it is linear in the features",
        loses="nothing within a graph; graphs of other sizes are scaled otherwise",
        use="Beside another normalization, where sums grow with the number of nodes.",
        source="Dwivedi et al. 2020, arXiv:2003.00982",
    ),
    Normalization(
        name="message",
        title="MessageNorm",
        layer=MessageNorm,
        summary="the length of a message, all channels of a node",
        formula="y = s ‖x‖ m / ‖m‖",
        invariant="scale of each node's message",
        loses="the length of a message, which becomes that of the node",
        use="On the aggregated messages of deep models, with the node added behind it.",
        source="Li et al. 2020, arXiv:2006.07739",
        needs=("message",),
        arguments=MappingProxyType({"learn_scale": True}),
    ),
    Normalization(
        name="diff-group",
        title="DiffGroupNorm",
        layer=DiffGroupNorm,
        summary="each channel of each soft group of nodes, over the minibatch",
        formula="y = x + λ Σ_g BN_g(s_g ⊙ x),  s = softmax(x W)",
        invariant="nothing: the features themselves are in the sum",
        loses="nothing: groups are added to the features",
        use="Against oversmoothing of the nodes of one graph that fall into groups.",
        source="Zhou et al. 2020, arXiv:2006.06972",
        arguments=MappingProxyType({"groups": 8}),
    ),
    Normalization(
        name="hetero-batch",
        title="HeteroBatchNorm",
        layer=HeteroBatchNorm,
        summary="each channel over all nodes of one type in the minibatch",
        formula="y = γ_T (x − μ_T) / √(σ_T² + ε) + β_T",
        invariant="shift and scale of each channel of a type over the whole batch",
        loses="the mean and spread of a channel of a type over the batch",
        use="When node types have features of different kinds and every type is frequent.",
        source="Ioffe & Szegedy 2015, per type as in PyG",
        needs=("types",),
    ),
    Normalization(
        name="hetero-layer",
        title="HeteroLayerNorm",
        layer=HeteroLayerNorm,
        summary="all channels of a node, with weight and bias of its type",
        formula="y = γ_T (x − μ) / √(σ² + ε) + β_T",
        invariant="shift and scale of all channels of a node together",
        loses="how large the features of a node are",
        use="When node types have features of different kinds and some are rare.",
        source="Ba et al. 2016, per type as in PyG",
        needs=("types",),
    ),
    Normalization(
        name="rms",
        title="RMSNorm",
        layer=RMSNorm,
        summary="the second moment of all channels of a node; no mean",
        formula="y = γ x / √(mean(x²) + ε)",
        invariant="scale of all channels of a node together",
        loses="how large the features of a node are",
        use="As LayerNorm, where the mean carries something or every pass counts.",
        source="Zhang & Sennrich 2019, arXiv:1910.07467",
    ),
    Normalization(
        name="group",
        title="GroupNorm",
        layer=GroupNorm,
        summary="the channels of a group, in a node",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        invariant="shift and scale of each group of channels of a node",
        loses="how large each group of features of a node is",
        use="Where groups of channels mean different things, as the heads of attention do.",
        source="Wu & He 2018, arXiv:1803.08494",
        arguments=MappingProxyType({"num_groups": 8}),
    ),
    Normalization(
        name="group-graph",
        title="GroupNorm (graph)",
        layer=GroupNorm,
        summary="the channels of a group, over the nodes of a graph",
        formula="y = γ (x − μ) / √(σ² + ε) + β",
        invariant="shift and scale of each group of channels within each graph",
        loses="how large each group of features of a graph is",
        use="Between LayerNorm of a graph (one group) and InstanceNorm (a group per channel).",
        source="Wu & He 2018, arXiv:1803.08494",
        arguments=MappingProxyType({"num_groups": 8, "mode": "graph"}),
    ),
    Normalization(
        name="node",
        title="NodeNorm",
        layer=NodeNorm,
        summary="the spread of all channels of a node, of which a root divides",
        formula="y = x / σ^(1/p)",
        invariant="nothing but for p = 1: scale of all channels of a node together",
        loses="a part of how large the features of a node are; p says how much",
        use="In deep models for the nodes of one graph, whose nodes come to differ in variance.",
        source="Zhou et al. 2020, arXiv:2006.07107",
    ),
    Normalization(
        name="ada",
        title="AdaNorm",
        layer=AdaNorm,
        summary="all channels of a node, with a gain that each value chooses",
        formula="y = C (1 − k z) z,  z = (x − μ) / √(σ² + ε), the factor held constant",
        invariant="shift and scale of all channels of a node together",
        loses="how large the features of a node are; nothing is learned",
        use="As LayerNorm, where its weight and bias overfit.",
        source="Xu et al. 2019, arXiv:1911.07013",
    ),
    Normalization(
        name="power",
        title="PowerNorm",
        layer=PowerNorm,
        summary="a running second moment of each channel over all nodes; no mean",
        formula="y = γ x / ψ + β,  ψ² a running mean of x²",
        invariant="nothing in a single call: the moment is a running one",
        loses="the size of a channel over the batches before",
        use="As BatchNorm, where batches differ so much that their statistics are noise. While it "
        "warms up it takes each batch's own moment: for 10000 batches, in the lab for a tenth of "
        "the training steps.",
        source="Shen et al. 2020, arXiv:2003.07845",
    ),
    Normalization(
        name="contra",
        title="ContraNorm",
        layer=ContraNorm,
        summary="no statistic: nodes of a graph repel those that are alike, but for neighbours",
        formula="y = (1 + s) x − s softmax(x̂ x̂ᵀ / τ) x,  over nodes that are no neighbours",
        invariant="nothing",
        loses="nothing; what nodes have in common stays",
        use="Against oversmoothing; it costs the square of the nodes of a graph. Without edges all "
        "nodes repel each other, as in transformers; there take scale=0.1.",
        source="Guo et al. 2023, arXiv:2303.06562",
        takes=("adjacency",),
        # On graphs; the layer's default is for transformers.
        arguments=MappingProxyType({"scale": 1.0}),
    ),
    Normalization(
        name="adja",
        title="AdjaNorm",
        layer=AdjaNorm,
        summary="all channels of a node and of its neighbours",
        formula="y = γ (x − μ_N) / √(σ_N² + ε) + β",
        invariant="shift and scale of all features of a graph together",
        loses="how large the features of a neighbourhood are",
        use="When nodes are to be compared with their surroundings.",
        source="Chen et al. 2020, arXiv:2009.11746",
        needs=("adjacency",),
    ),
    Normalization(
        name="united",
        title="UnitedNorm",
        layer=UnitedNorm,
        summary="a learned mixture of node, neighbourhood, graph and batch, per channel",
        formula="y = γ (λ_n z_n + λ_a z_a + λ_g z_g + λ_b z_b) + β",
        invariant="shift and scale of all features of the batch together",
        loses="a mixture of what its four parts lose",
        use="To let training choose: its proportions say which part each channel prefers.",
        source="Chen et al. 2020, arXiv:2009.11746",
        needs=("adjacency",),
    ),
    Normalization(
        name="granola",
        title="GRANOLA",
        layer=Granola,
        summary="all channels of a node, with a weight and bias from a small network on the graph",
        formula="y = γ_i z + β_i,  z = LayerNorm(x),  (γ, β) = GNN([x, random])",
        invariant="nothing: weight and bias depend on the features",
        loses="nothing that its network can tell; its results are random",
        use="When structure that other networks cannot tell counts; it costs a second network.",
        source="Eliasof et al. 2024, arXiv:2404.13344",
        needs=("adjacency",),
    ),
    Normalization(
        name="super",
        title="SuperNorm",
        layer=SuperNorm,
        summary="each channel over the minibatch, calibrated by the subgraph around each node",
        formula="y = ½ (γ + e^w) BatchNorm(x + w' c mean(x)) + β,  c, e of the subgraph",
        invariant="scale of each channel over the whole batch",
        loses="what BatchNorm loses, and adds what tells subgraphs apart",
        use="When nodes look alike and the shape of their surroundings counts.",
        source="Chen et al. 2023, arXiv:2305.19903",
        needs=("factors",),
    ),
    Normalization(
        name="conditional",
        title="ConditionalNorm",
        layer=ConditionalNorm,
        summary="each channel over the nodes of a graph, with a weight and bias of its condition",
        formula="y = (1 + Δγ_g) (x − μ) / √(σ² + ε) + β_g,  (Δγ, β) = W c + b",
        invariant="shift and scale of each channel within each graph",
        loses="what InstanceNorm loses, and puts what the condition says in its place",
        use="When a graph comes with a vector: a class, a time, a temperature.",
        source="De Vries et al. 2017; Peebles & Xie 2023",
        needs=("condition",),
    ),
    Normalization(
        name="custom",
        title="CustomNorm",
        layer=CustomNorm,
        summary="any domain for the mean, any for the spread; by default those of InstanceNorm",
        formula="y = γ (x − α μ) / √(s² + ε) + β,  s² = mean((x − α μ)²)",
        invariant="what the domains say; by default shift and scale of each channel in each graph",
        loses="what the domains say",
        use="To try a point of the equation that nobody has: custom:center=graph,scale=node.",
    ),
)

CATALOG: Final[Mapping[str, Normalization]] = MappingProxyType({row.name: row for row in _ROWS})
