"""Multi-head self-attention within each graph, on packed rows, with QK-norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphnorms.errors import unknown_name
from graphnorms.layers import CustomNorm, GroupNorm
from graphnorms.models.linear import Linear
from graphnorms.models.norm_slot import check_sizes
from graphnorms.segments import Segments

QK_NORMS: Final = ("none", "layer", "rms", "l2")

_SHORT: Final = 16
"""Segments of up to this many rows share a block."""

_UNREAD: Final = 4
"""On a GPU, the longest segment over the mean up to which lengths are not read."""

_FUSED_FROM: Final = 1024
"""Rows of a block from which torch's fused attention trains: it stores no scores, but has no second
derivative."""


@dataclass(frozen=True, slots=True)
class Block:
    """Segments of similar length in a padded tensor `(number, length, channels)`.

    Args:
        number, length: Number of segments, and rows of the longest.
        place: Position of each row in the flattened block, `(rows,)`; `None` if the rows fill the
            block in order.
        seen: Whether a position has a row, or is the first, bool, `(number, 1, 1, length)`; `None`
            if all have.
    """

    number: int
    length: int
    place: Tensor | None = None
    seen: Tensor | None = None

    def pad(self, x: Tensor) -> Tensor:
        """Lay out the rows of the block, `(rows, channels)`, padded with 0."""
        if self.place is not None:
            room = x.new_zeros((self.number * self.length, x.shape[1]))
            x = room.index_copy(0, self.place, x)
        return x.view(self.number, self.length, x.shape[1])

    def rows(self, padded: Tensor) -> Tensor:
        """Read the rows of the block back, `(rows, channels)`."""
        x = padded.flatten(0, 1)
        return x if self.place is None else x.index_select(0, self.place)


@dataclass(frozen=True, slots=True)
class Blocks:
    r"""The segments of a batch in padded blocks, by length.

    A block has the segments of more than $2^{k-1}$ and at most $2^k$ rows, so that all blocks
    together have less than four times the $\sum_g n_g^2$ pairs of rows of the segments, on a GPU
    less than sixteen times; up to 16 rows are one block. Segments of equal length are a view.

    Args:
        parts: The blocks.
        order: The rows in the order of the blocks, `(rows,)`; `None` if that is their own.
        back: The inverse of `order`.
    """

    parts: tuple[Block, ...]
    order: Tensor | None = None
    back: Tensor | None = None

    @classmethod
    def of(cls, segments: Segments) -> Blocks:
        """Lay out segments.

        On a GPU they are one block if the longest, where it is known, has at most four times the
        rows of the mean; otherwise their lengths are read, which synchronizes. Compiled code cannot
        branch on the lengths: there they are always one block, of `num_segments` times the longest.

        Raises:
            ValueError: Rows are masked, or compiled code does not know the longest.
        """
        if segments.masked:
            raise ValueError("segments has masked rows, expected none; drop these rows")
        number, rows, longest = segments.num_segments, segments.num_rows, segments.longest
        if rows == 0:
            return cls(())
        short = 1 if segments.ptr.is_cpu else _UNREAD
        if torch.compiler.is_compiling() and longest is None:
            raise ValueError(
                "the length of the longest graph is not known in compiled code, and attention pads "
                "to it; make the Segments before, from ptr or with batch on the CPU"
            )
        if longest is not None and (
            torch.compiler.is_compiling() or number * longest <= short * rows
        ):
            block, _ = _block(segments, None, longest, rows)
            return cls((block,), *_inverted(segments.order))
        sizes = segments.counts.tolist()
        kinds: dict[int, list[int]] = {}
        for segment, size in enumerate(sizes):
            if size:
                kinds.setdefault((max(size, _SHORT) - 1).bit_length(), []).append(segment)
        parts, positions = [], []
        for _, chosen in sorted(kinds.items()):
            lengths = [sizes[each] for each in chosen]
            ids = torch.tensor(chosen, device=segments.device)
            block, at = _block(segments, ids, max(lengths), sum(lengths))
            parts.append(block)
            positions.append(at)
        order = segments.order
        if len(parts) > 1:
            place = torch.cat(positions)
            order = place if order is None else order[place]
        return cls(tuple(parts), *_inverted(order))

    def apply(self, function: Callable[[Tensor, Block], Tensor], x: Tensor) -> Tensor:
        """Apply a function to the padded rows of each block, and read its results back.

        Args:
            function: Maps `(number, length, channels)` and the block to
                `(number, length, other channels)`.
            x: The rows, at least one, `(rows, channels)`.
        """
        if self.order is not None:
            x = x.index_select(0, self.order)
        if len(self.parts) == 1:
            (block,) = self.parts
            y = block.rows(function(block.pad(x), block))
        else:
            sizes = [b.number * b.length if b.place is None else len(b.place) for b in self.parts]
            rows = x.split(sizes)
            y = torch.cat(
                [
                    block.rows(function(block.pad(each), block))
                    for block, each in zip(self.parts, rows, strict=True)
                ]
            )
        return y if self.back is None else y.index_select(0, self.back)


def _block(
    segments: Segments, chosen: Tensor | None, length: int, rows: int
) -> tuple[Block, Tensor]:
    """Return the block of some segments, by default all, and the positions of its rows."""
    first, counts = segments.ptr[:-1], segments.counts
    if chosen is not None:
        first, counts = first[chosen], counts[chosen]
    number = first.shape[0]
    steps = torch.arange(length, device=segments.device)
    positions = (first.unsqueeze(1) + steps).flatten()
    if number * length == rows:
        return Block(number, length), positions
    there = steps < counts.unsqueeze(1)  # (number, length)
    # nonzero would read the number of rows from a GPU.
    place = torch.argsort(~there.flatten(), stable=True)[:rows]
    # An empty segment sees one row of padding: a softmax over nothing would be NaN.
    seen = (there | (steps == 0)).view(number, 1, 1, length)
    return Block(number, length, place, seen), positions.index_select(0, place)


def _inverted(order: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    if order is None:
        return None, None
    back = torch.empty_like(order)
    back[order] = torch.arange(order.shape[0], device=order.device)
    return order, back


class XavierLinear(Linear):
    """A Linear with Glorot & Bengio's uniform initialization and biases of 0."""

    def reset_parameters(self) -> None:
        """Draw the weights, and set the biases to 0."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)


class QKNorm(nn.Module):
    r"""A normalization of each head of the queries and keys.

    With heads $q, k$ of $d$ channels,

    - `"layer"`: LayerNorm of each head, $\mathrm{score} = \hat q \cdot \hat k / \sqrt d$;
    - `"rms"`: RMSNorm of each head, likewise;
    - `"l2"`: $\mathrm{score} = g \, \frac{q}{\|q\|} \cdot \frac{k}{\|k\|}$ with a learned $g$ per
      head, at first $\sqrt d$, which is `"rms"` before training.

    `"layer"` and `"rms"` have a weight (and bias) per channel.

    Shapes: `q` and `k` `(rows, channels)`, head after head.

    Args:
        kind: `"layer"`, `"rms"` or `"l2"`.
        channels: Width of the rows.
        heads: Number of heads, a divisor of `channels`.

    Source: `"l2"`: Henry et al. 2020, https://arxiv.org/abs/2010.04245, with one $g$ for all heads,
    which begins at $\log_2(L^2 - L)$ for sequences of $L$; `"layer"`: Dehghani et al. 2023,
    https://arxiv.org/abs/2302.05442.
    """

    gain: nn.Parameter | None

    def __init__(self, kind: str, channels: int, heads: int) -> None:
        super().__init__()
        if kind not in QK_NORMS[1:]:
            raise unknown_name("qk_norm", kind, QK_NORMS)
        self.heads = heads
        self.width = channels // heads
        self.query: nn.Module | None = None
        self.key: nn.Module | None = None
        if kind == "l2":
            self.gain = nn.Parameter(torch.empty(heads))
        else:
            self.register_parameter("gain", None)
            self.query, self.key = (_of_heads(kind, channels, heads) for _ in range(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the gain to its first value; the layers reset themselves."""
        if self.gain is not None:
            nn.init.constant_(self.gain, math.sqrt(self.width))

    def forward(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        r"""Normalize queries and keys, for scores of $q \cdot k / \sqrt d$."""
        if self.query is not None and self.key is not None:
            return self.query(q), self.key(k)
        assert self.gain is not None
        q, k = (F.normalize(each.unflatten(1, (self.heads, -1)), dim=2) for each in (q, k))
        gain = (self.gain * math.sqrt(self.width)).to(q.dtype)
        return (q * gain.unsqueeze(1)).flatten(1), k.flatten(1)


def _of_heads(kind: str, channels: int, heads: int) -> nn.Module:
    if kind == "layer":
        return GroupNorm(channels, heads)
    return CustomNorm(channels, center="none", scale="node", groups=heads, bias=False)


class Attention(nn.Module):
    r"""Multi-head self-attention within segments.

    $$ y_i = W_o \Big[ \sum_j p^k_{ij} v^k_j \Big]_k + b_o, \qquad
       p^k_{i \cdot} = \mathrm{softmax}_j\big( q^k_i \cdot k^k_j / \sqrt{d} \big), $$

    over the rows $j$ that $i$ sees, with $(q, k, v) = W x + b$ and heads of $d$ channels. Memory
    grows with $\sum_g n_g^2$, and for segments of more than 1024 rows, without dropout, with
    $\sum_g n_g$: there torch's fused attention is used, which has no second derivative.

    Shapes: `x` and the result `(rows, channels)`.

    Args:
        channels: Width of the rows.
        heads: Number of heads, a divisor of `channels`.
        dropout: Dropout probability of the $p_{ij}$ in training.
        qk_norm: The normalization of $q$ and $k$, see `QKNorm`, or `"none"`.

    Raises:
        ValueError: `heads` does not divide `channels`, or `qk_norm` is unknown.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762. `qkv` corresponds to `in_proj` of
    `torch.nn.MultiheadAttention` and `out` to its `out_proj`.
    """

    def __init__(
        self, channels: int, heads: int, dropout: float = 0.0, qk_norm: str = "none"
    ) -> None:
        super().__init__()
        check_sizes(channels=channels, heads=heads)
        if channels % heads:
            raise ValueError(f"heads is {heads}, expected a divisor of the {channels} channels")
        self.heads = heads
        self.dropout = dropout
        self.qkv = XavierLinear(channels, 3 * channels)
        self.out = XavierLinear(channels, channels)
        self.norm_qk = None if qk_norm == "none" else QKNorm(qk_norm, channels, heads)

    def forward(self, x: Tensor, blocks: Blocks, *, causal: bool = False) -> Tensor:
        """Apply attention to the rows.

        Args:
            x: The rows.
            blocks: Their layout, computed once for all layers.
            causal: Whether rows see only earlier rows.
        """
        qkv = self.qkv(x)  # (rows, 3 * channels)
        if self.norm_qk is not None:
            q, k, v = qkv.chunk(3, dim=1)
            q, k = self.norm_qk(q, k)
            qkv = torch.cat((q, k, v), dim=1)

        def attend(padded: Tensor, block: Block) -> Tensor:
            heads = padded.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            q, k, v = heads.unbind(0)  # (number, heads, length, channels / heads)
            dropout = self.dropout if self.training else 0.0
            y = weighted_sum(q, k, v, block.seen, dropout=dropout, causal=causal)
            return y.transpose(1, 2).flatten(2)

        y = blocks.apply(attend, qkv) if x.shape[0] else qkv[:, : x.shape[1]]
        result: Tensor = self.out(y)
        return result

    @torch.no_grad()
    def shrink(self, factor: float) -> None:
        """Multiply the weights of values and output, as DeepNorm's initialization does."""
        self.qkv.weight[2 * self.out.in_features :].mul_(factor)
        self.out.weight.mul_(factor)


def weighted_sum(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, *, dropout: float, causal: bool
) -> Tensor:
    """Return the mean of the values, weighted by the softmax of the scores.

    Args:
        q, k, v: `(number, heads, length, width)`.
        seen: The keys that count, bool, `(number, 1, 1, length)`; `None` for all. With `causal`
            they are the first ones.
        dropout: Dropout probability of the weights.
        causal: Whether a query sees only the keys up to its own position.
    """
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if q.shape[2] > _FUSED_FROM or not (learns or dropout):
        # The padding is behind all rows, where a causal query does not look.
        return F.scaled_dot_product_attention(
            q, k, v, None if causal else seen, dropout_p=dropout, is_causal=causal
        )
    scores = (q / math.sqrt(q.shape[3])) @ k.transpose(2, 3)  # (number, heads, length, length)
    if causal:
        later = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    elif seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    weights = F.dropout(scores.softmax(3), dropout)
    return weights.to(v.dtype) @ v
