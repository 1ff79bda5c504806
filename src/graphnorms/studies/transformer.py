"""Transformers on packed rows, with post-LN or pre-LN."""

from __future__ import annotations

import functools
from typing import TypedDict, Unpack

from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.errors import unknown_name
from graphnorms.models.attention import Attention, Blocks, XavierLinear
from graphnorms.models.initialize import initialize
from graphnorms.models.model_config import HEADS, READOUTS
from graphnorms.models.norm_slot import check_sizes, make_activation, plain_norm
from graphnorms.models.readout import readout
from graphnorms.segments import Segments


class TransformerLayer(nn.Module):
    r"""Attention and a feed-forward network, each with a residual sum and a norm.

    Post-LN, as in Vaswani et al., or pre-LN, with `norm_first`:

    $$ \text{post: } \; x' = \mathrm{Norm}_1(x + \mathrm{Att}(x)), \quad
                        y = \mathrm{Norm}_2(x' + \mathrm{FFN}(x')); $$
    $$ \text{pre: } \; x' = x + \mathrm{Att}(\mathrm{Norm}_1(x)), \quad
                       y = x' + \mathrm{FFN}(\mathrm{Norm}_2(x')), $$

    with $\mathrm{FFN}(x) = W_2 f(W_1 x + b_1) + b_2$. The norm is applied to the packed rows:
    BatchNorm's statistics are over all rows of the batch and GraphNorm's over those of a segment,
    without padding.

    Shapes: `x` and the result `(rows, channels)`.

    Args:
        channels, heads: Width of the rows, and number of attention heads.
        feedforward: Width between $W_1$ and $W_2$; `None` for four times `channels`.
        norm: The normalization as text: its catalogue name, optionally with arguments after a
            colon.
        norm_first: Whether the norm is inside the branches (pre-LN).
        causal: Whether rows see only earlier rows of their segment.
        activation: $f$, one of `ACTIVATIONS` by name.
        dropout: Dropout probability in training, for the attention, between $W_1$ and $W_2$, and at
            the end of each branch.
        norm_eps: ε of the norms.

    Raises:
        ValueError: A name is unknown, a number is invalid, or the norm would leak later rows.

    Source: Xiong et al. 2020, https://arxiv.org/abs/2002.04745, table 1. `linear1`, `linear2`,
    `norm1` and `norm2` are those of `torch.nn.TransformerEncoderLayer`, with equal results.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        feedforward: int | None = None,
        norm: str = "layer",
        norm_first: bool = False,
        causal: bool = False,
        activation: str = "relu",
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        feedforward = 4 * channels if feedforward is None else feedforward
        check_sizes(channels=channels, feedforward=feedforward)
        self.norm_first = norm_first
        self.causal = causal
        self.make_norm = functools.partial(row_norm, norm, channels, norm_eps, causal)
        self.attention = Attention(channels, heads, dropout)
        self.linear1 = XavierLinear(channels, feedforward)
        self.activation = make_activation(activation)
        self.linear2 = XavierLinear(feedforward, channels)
        self.norm1 = self.make_norm()
        self.norm2 = self.make_norm()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, segments: Segments, blocks: Blocks) -> Tensor:
        """Transform the rows; `blocks` are those of `segments`."""
        if self.norm_first:
            x = x + self._attend(self.norm1(x, segments), blocks)
            return x + self._feed(self.norm2(x, segments))
        x = self.norm1(x + self._attend(x, blocks), segments)
        y: Tensor = self.norm2(x + self._feed(x), segments)
        return y

    def _attend(self, x: Tensor, blocks: Blocks) -> Tensor:
        y: Tensor = self.dropout(self.attention(x, blocks, causal=self.causal))
        return y

    def _feed(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.linear1(x)))
        y: Tensor = self.dropout(self.linear2(inner))
        return y


class LayerOptions(TypedDict, total=False):
    """The options of a `TransformerLayer` that a whole model hands on."""

    feedforward: int | None
    norm: str
    norm_first: bool
    activation: str
    dropout: float
    norm_eps: float


class StackOptions(LayerOptions, total=False):
    """Those that a `Transformer` hands on."""

    causal: bool


class Transformer(nn.Module):
    """A stack of `TransformerLayer`; with `norm_first` followed by one more norm.

    It draws its weights from torch's generator; models that contain it call `initialize`.

    Shapes: `x` and the result `(rows, channels)`.

    Args:
        channels, heads: Width of the rows, and number of heads of attention.
        layers: Number of layers.
        options: Those of every `TransformerLayer`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        layers: int,
        **options: Unpack[StackOptions],
    ) -> None:
        super().__init__()
        check_sizes(layers=layers)
        stack = [TransformerLayer(channels, heads, **options) for _ in range(layers)]
        self.layers = nn.ModuleList(stack)
        self.norm = stack[0].make_norm() if stack[0].norm_first else None

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """Transform the rows within their segments."""
        blocks = Blocks.of(segments)
        for layer in self.layers:
            x = layer(x, segments, blocks)
        return x if self.norm is None else self.norm(x, segments)


class GraphTransformer(nn.Module):
    r"""A post-LN or pre-LN transformer on the nodes of each graph.

    $x_i = W f_i + z_{\deg(i)}$ with a learned vector per in-degree, then `Transformer` over the
    nodes of a graph, a readout and one Linear. It uses only the degrees of the edges; the nodes
    form a set.

    A graph has the same result alone and in a batch, unless the norm is over the batch.

    Shapes: `x` `(nodes, in_channels)`, the result `(graphs, out_channels)`, or
    `(nodes, out_channels)` with the head `"node"`.

    Args:
        in_channels, out_channels: Features of a node, and outputs per graph or node.
        channels, heads, layers: See `Transformer`.
        readout: The pooling of a graph's nodes: `"sum"`, `"mean"` or `"max"`.
        max_degree: Larger degrees share the vector of this one.
        head: `"graph"`: one output per graph; `"node"`: one per node, without a readout.
        seed: Seed of the initial weights; each depends on the seed and its name only.
        options: Those of every `TransformerLayer`, apart from `causal`.

    Raises:
        ValueError: A name or number is invalid, see also `TransformerLayer`.

    Source: for the degrees Ying et al. 2021, https://arxiv.org/abs/2106.05234, equation 5; Xiong et
    al. 2020, https://arxiv.org/abs/2002.04745.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 64,
        heads: int = 4,
        layers: int = 4,
        readout: str = "mean",
        max_degree: int = 32,
        head: str = "graph",
        seed: int,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        for kind, given, known in (("readout", readout, READOUTS), ("head", head, HEADS)):
            if given not in known:
                raise unknown_name(kind, given, known)
        check_sizes(in_channels=in_channels, out_channels=out_channels, max_degree=max_degree)
        self.readout = readout if head == "graph" else None
        self.linear = XavierLinear(in_channels, channels)
        self.degree = nn.Embedding(max_degree + 1, channels)
        self.transformer = Transformer(channels, heads, layers=layers, **options)
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


def row_norm(norm: str, channels: int, eps: float, causal: bool) -> nn.Module:
    """Build a norm of packed rows; if `causal`, it must not leak later rows."""
    why = "in a causal model it would leak later rows" if causal else None
    return plain_norm(norm, channels, eps=eps, rows_only=why)
