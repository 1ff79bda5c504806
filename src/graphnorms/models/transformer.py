"""The transformer on packed rows, with the norm behind each residual sum or inside each branch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.models.blocks import Blocks
from graphnorms.models.placement import check_sizes, make_activation, plain_norm
from graphnorms.segments import Segments


class XavierLinear(nn.Linear):
    """A Linear whose weights begin as Glorot & Bengio's uniform ones and whose biases as 0."""

    def reset_parameters(self) -> None:
        """Draw the weights, and set the biases to 0."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


class Attention(nn.Module):
    r"""Self-attention of several heads, within blocks.

    $$ y_i = W_o \Big[ \sum_j p^k_{ij} v^k_j \Big]_k + b_o, \qquad
       p^k_{i \cdot} = \mathrm{softmax}_j\big( q^k_i \cdot k^k_j / \sqrt{d} \big), $$

    over the rows $j$ that $i$ sees, with $(q, k, v) = W x + b$ and heads of $d$ channels. Computed
    by `torch.nn.functional.scaled_dot_product_attention`.

    Shapes: `x` and the result `(rows, channels)`.

    Args:
        channels: Width of the rows.
        heads: Number of heads, a divisor of `channels`.
        dropout: Share of the $p_{ij}$ to drop in training.

    Raises:
        ValueError: `heads` does not divide `channels`.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. `qkv` is `in_proj` of
    `torch.nn.MultiheadAttention` and `out` its `out_proj`.
    """

    def __init__(self, channels: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        check_sizes(channels=channels, heads=heads)
        if channels % heads:
            raise ValueError(f"heads is {heads}, expected a divisor of the {channels} channels")
        self.heads = heads
        self.dropout = dropout
        self.qkv = XavierLinear(channels, 3 * channels)
        self.out = XavierLinear(channels, channels)

    def forward(
        self, x: Tensor, blocks: Blocks, mask: Tensor | None = None, *, causal: bool = False
    ) -> Tensor:
        """Let the rows attend to those that they see.

        Args:
            x: The rows.
            blocks: How they lie in blocks.
            mask: What `blocks.mask(causal=causal)` says, made once for all layers.
            causal: Whether rows see none behind them.
        """
        qkv = blocks.pad(self.qkv(x))  # (blocks, length, 3 * channels)
        heads = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = heads.unbind(0)  # (blocks, heads, length, channels / heads)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal and mask is None,
        )  # fmt: skip
        result: Tensor = self.out(blocks.rows(y.transpose(1, 2).flatten(2)))
        return result


class TransformerLayer(nn.Module):
    r"""Attention and a feed-forward network, each with a residual sum and a norm.

    Post-LN, as Vaswani et al. have it, and pre-LN, with `norm_first`:

    $$ \text{post: } \; x' = \mathrm{Norm}_1(x + \mathrm{Att}(x)), \quad
                        y = \mathrm{Norm}_2(x' + \mathrm{FFN}(x')); $$
    $$ \text{pre: } \; x' = x + \mathrm{Att}(\mathrm{Norm}_1(x)), \quad
                       y = x' + \mathrm{FFN}(\mathrm{Norm}_2(x')), $$

    with $\mathrm{FFN}(x) = W_2 f(W_1 x + b_1) + b_2$. The norm sees the packed rows and their
    segments: BatchNorm's statistics are over all rows of the batch and GraphNorm's over those of
    a segment, and no padding enters either.

    Shapes: `x` and the result `(rows, channels)`.

    Args:
        channels, heads: Width of the rows, and number of heads of attention.
        feedforward: Width between $W_1$ and $W_2$; `None` for four times `channels`.
        norm: The normalization as text: its catalogue name, arguments behind a colon.
        norm_first: Whether the norm stands inside the branches.
        causal: Whether rows see none behind them in their segment.
        activation: $f$, one of `ACTIVATIONS` by name.
        dropout: Share to drop in training, of the attention, between $W_1$ and $W_2$, and of what
            each branch adds.
        norm_eps: ε of the norms.

    Raises:
        ValueError: A name is unknown, a number does not fit, or the norm would show a row those
            behind it.

    Source: Xiong et al. 2020, https://arxiv.org/abs/2002.04745, table 1. `linear1`, `linear2`,
    `norm1` and `norm2` are those of `torch.nn.TransformerEncoderLayer`, and equal in their result.
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
        self.attention = Attention(channels, heads, dropout)
        self.linear1 = XavierLinear(channels, feedforward)
        self.activation = make_activation(activation)
        self.linear2 = XavierLinear(feedforward, channels)
        self.norm1 = row_norm(norm, channels, norm_eps, causal)
        self.norm2 = row_norm(norm, channels, norm_eps, causal)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, segments: Segments, blocks: Blocks, mask: Tensor | None = None
    ) -> Tensor:
        """Transform the rows; `blocks` and `mask` are those of `segments`."""
        if self.norm_first:
            x = x + self._attend(self.norm1(x, segments), blocks, mask)
            return x + self._feed(self.norm2(x, segments))
        x = self.norm1(x + self._attend(x, blocks, mask), segments)
        y: Tensor = self.norm2(x + self._feed(x), segments)
        return y

    def _attend(self, x: Tensor, blocks: Blocks, mask: Tensor | None) -> Tensor:
        y: Tensor = self.dropout(self.attention(x, blocks, mask, causal=self.causal))
        return y

    def _feed(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.activation(self.linear1(x)))
        y: Tensor = self.dropout(self.linear2(inner))
        return y


class Transformer(nn.Module):
    """A stack of `TransformerLayer`; with `norm_first` one more norm behind the last.

    It draws its weights from torch's generator; a model that it is a part of calls `initialize`.

    Shapes: `x` and the result `(rows, channels)`.

    Args:
        channels, heads: Width of the rows, and number of heads of attention.
        layers: Number of layers.
        feedforward, norm, norm_first, causal, activation, dropout, norm_eps: As of
            `TransformerLayer`.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        layers: int,
        feedforward: int | None = None,
        norm: str = "layer",
        norm_first: bool = False,
        causal: bool = False,
        activation: str = "relu",
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_sizes(layers=layers)
        self.causal = causal
        self.layers = nn.ModuleList(
            TransformerLayer(
                channels, heads, feedforward=feedforward, norm=norm, norm_first=norm_first,
                causal=causal, activation=activation, dropout=dropout, norm_eps=norm_eps,
            )
            for _ in range(layers)
        )  # fmt: skip
        self.norm = row_norm(norm, channels, norm_eps, causal) if norm_first else None

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        """Transform the rows, each from those of its segment."""
        blocks = Blocks.of(segments)
        mask = blocks.mask(causal=self.causal)
        for layer in self.layers:
            x = layer(x, segments, blocks, mask)
        return x if self.norm is None else self.norm(x, segments)


def row_norm(norm: str, channels: int, eps: float, causal: bool) -> nn.Module:
    """Build a norm of packed rows, one that shows no row those behind it if `causal`."""
    why = "in a causal model they would show a row those behind it" if causal else None
    return plain_norm(norm, channels, eps=eps, rows_only=why)
