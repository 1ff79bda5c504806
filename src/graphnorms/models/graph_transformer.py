"""A transformer on packed graphs: every node attends to the nodes of its graph."""

from __future__ import annotations

from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.errors import unknown_name
from graphnorms.models.config import HEADS, READOUTS
from graphnorms.models.initialize import initialize
from graphnorms.models.placement import check_sizes
from graphnorms.models.readout import readout
from graphnorms.models.transformer import Transformer, XavierLinear
from graphnorms.segments import Segments


class GraphTransformer(nn.Module):
    r"""A post-LN or pre-LN transformer on the nodes of each graph.

    $x_i = W f_i + z_{\deg(i)}$ with a learned vector per in-degree, then `Transformer` over the
    nodes of a graph, a readout and one Linear. Of the edges it sees the degrees and no more; the
    nodes are a set.

    A graph gives the same result alone and in a batch, unless the norm looks at the batch.

    Shapes: `x` `(nodes, in_channels)`, the result `(graphs, out_channels)`, or
    `(nodes, out_channels)` with the head `"node"`.

    Args:
        in_channels, out_channels: Features of a node, and results per graph or node.
        channels, heads, layers, feedforward, norm, norm_first, activation, dropout, norm_eps: As
            of `Transformer`.
        readout: How a graph is read from its nodes: `"sum"`, `"mean"` or `"max"`.
        max_degree: The degree from which on all share one vector.
        head: `"graph"`: one result per graph; `"node"`: one per node, without a readout.
        seed: Seeds the initial weights; each depends on the seed and its own name only.

    Raises:
        ValueError: What `TransformerLayer` refuses, or a name or number is.

    Source: the degrees are those of Ying et al. 2021, https://arxiv.org/abs/2106.05234, equation
    5; Xiong et al. 2020, https://arxiv.org/abs/2002.04745.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 64,
        heads: int = 4,
        layers: int = 4,
        feedforward: int | None = None,
        norm: str = "layer",
        norm_first: bool = False,
        activation: str = "relu",
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        readout: str = "mean",
        max_degree: int = 32,
        head: str = "graph",
        seed: int,
    ) -> None:
        super().__init__()
        for kind, given, known in (("readout", readout, READOUTS), ("head", head, HEADS)):
            if given not in known:
                raise unknown_name(kind, given, known)
        check_sizes(in_channels=in_channels, out_channels=out_channels, max_degree=max_degree)
        self.readout = readout if head == "graph" else None
        self.linear = XavierLinear(in_channels, channels)
        self.degree = nn.Embedding(max_degree + 1, channels)
        self.transformer = Transformer(
            channels, heads, layers=layers, feedforward=feedforward, norm=norm,
            norm_first=norm_first, activation=activation, dropout=dropout, norm_eps=norm_eps,
        )  # fmt: skip
        self.head = XavierLinear(channels, out_channels)
        initialize(self, seed)

    def forward(self, x: Tensor, adjacency: Adjacency, segments: Segments) -> Tensor:
        """Return the logits.

        Args:
            x: The features of the nodes.
            adjacency: The edges.
            segments: Which node belongs to which graph.
        """
        degree = adjacency.in_degree.clamp(max=self.degree.num_embeddings - 1)
        x = self.transformer(self.linear(x) + self.degree(degree), segments)
        if self.readout is not None:
            x = readout(x, segments, self.readout)
        y: Tensor = self.head(x)
        return y
