"""A transformer on sequences of tokens: a causal language model, or an encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import check_sizes
from graphnorms.models.transformer import Transformer, XavierLinear
from graphnorms.segments import Segments


def sinusoids(positions: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    r"""Encode positions, $\sin(t \, \omega_k)$ and $\cos(t \, \omega_k)$ by turns.

    $\omega_k = 10000^{-2k / \text{channels}}$.

    Shapes: `positions` `(rows,)`, the result `(rows, channels)`.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """
    even = torch.arange(0, channels, 2, device=positions.device, dtype=dtype)
    angles = positions.to(dtype).unsqueeze(1) * torch.exp(even * (-math.log(1e4) / channels))
    waves = torch.stack((angles.sin(), angles.cos()), 2).flatten(1)
    return waves[:, :channels]


class SequenceTransformer(nn.Module):
    """Tokens in, one result per token out, by a post-LN or a pre-LN transformer.

    With `causal` and as many results as tokens it is a language model. Sequences are packed: what
    is padding enters neither attention nor a statistic. In a causal model BatchNorm still mixes
    positions in training, as its statistics are over all of them; norms of whole segments are
    refused there.

    Weights begin as Xiong et al. have them: Xavier, biases 0, embeddings $N(0, 1)$, to which
    `sinusoids` are added.

    Shapes: `tokens` `(sequences, steps)`, the result `(sequences, steps, out_channels)`.

    Args:
        tokens: How many different tokens there are.
        out_channels: Results per token.
        channels, heads, layers, feedforward, norm, norm_first, causal, activation, dropout,
            norm_eps: As of `Transformer`.
        seed: Seeds the initial weights; each depends on the seed and its own name only.

    Raises:
        ValueError: What `TransformerLayer` refuses, or a number is not positive.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762; Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745.
    """

    def __init__(
        self,
        tokens: int,
        out_channels: int,
        *,
        channels: int = 64,
        heads: int = 4,
        layers: int = 2,
        feedforward: int | None = None,
        norm: str = "layer",
        norm_first: bool = False,
        causal: bool = True,
        activation: str = "relu",
        dropout: float = 0.0,
        norm_eps: float = 1e-5,
        seed: int,
    ) -> None:
        super().__init__()
        check_sizes(tokens=tokens, out_channels=out_channels)
        self.embedding = nn.Embedding(tokens, channels)
        self.transformer = Transformer(
            channels, heads, layers=layers, feedforward=feedforward, norm=norm,
            norm_first=norm_first, causal=causal, activation=activation, dropout=dropout,
            norm_eps=norm_eps,
        )  # fmt: skip
        self.head = XavierLinear(channels, out_channels)
        initialize(self, seed)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the results of every token, 0 behind the end of a sequence.

        Args:
            tokens: Their numbers, int64.
            lengths: How many of each sequence count, `(sequences,)`; `None` for all.
        """
        sequences, steps = tokens.shape
        positions = torch.arange(steps, device=tokens.device).expand(sequences, steps)
        if lengths is None:
            ptr = torch.arange(sequences + 1, device=tokens.device) * steps
            segments = Segments(ptr, None, sequences * steps, longest=steps)
            rows = self._rows(tokens.flatten(), positions.flatten(), segments)
            return rows.view(sequences, steps, rows.shape[1])
        if lengths.numel() and not 0 <= int(lengths.min()) <= int(lengths.max()) <= steps:
            raise ValueError(
                f"lengths has {int(lengths.min())} … {int(lengths.max())}, expected 0 … {steps}"
            )
        counts = positions < lengths.to(tokens.device).unsqueeze(1)
        segments = Segments.from_counts(lengths.to(tokens.device))
        rows = self._rows(tokens[counts], positions[counts], segments)
        return rows.new_zeros((sequences, steps, rows.shape[1])).masked_scatter(
            counts.unsqueeze(2), rows
        )

    def _rows(self, tokens: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        x = self.embedding(tokens)
        x = x + sinusoids(positions, x.shape[1], x.dtype)
        y: Tensor = self.head(self.transformer(x, segments))
        return y
