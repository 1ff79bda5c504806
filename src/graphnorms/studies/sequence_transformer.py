"""A causal language model: a transformer on sequences of tokens."""

from __future__ import annotations

import math
from typing import Unpack

import torch
from torch import Tensor, nn

from graphnorms.models.attention import XavierLinear
from graphnorms.models.initialize import initialize
from graphnorms.models.norm_slot import check_sizes
from graphnorms.segments import Segments
from graphnorms.studies.transformer import LayerOptions, Transformer


def sinusoids(positions: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    r"""Encode positions, $\sin(t \, \omega_k)$ and $\cos(t \, \omega_k)$ alternating.

    $\omega_k = 10000^{-2k / \text{channels}}$.

    Shapes: `positions` `(rows,)`, the result `(rows, channels)`.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """
    even = torch.arange(0, channels, 2, device=positions.device, dtype=dtype)
    angles = positions.to(dtype).unsqueeze(1) * torch.exp(even * (-math.log(1e4) / channels))
    waves = torch.stack((angles.sin(), angles.cos()), 2).flatten(1)
    return waves[:, :channels]


class SequenceTransformer(nn.Module):
    """Tokens in, one result per token out, by a causal post-LN or pre-LN transformer.

    Weights begin as Xiong et al. have them: Xavier, biases 0, embeddings $N(0, 1)$, to which
    `sinusoids` are added.

    Shapes: `tokens` `(sequences, steps)` int64, the result `(sequences, steps, out_channels)`.

    Args:
        tokens: Number of different tokens.
        out_channels: Results per token.
        channels, heads, layers: As of `Transformer`.
        seed: Seeds the initial weights; each depends on the seed and its own name only.
        options: Those of every `TransformerLayer`, apart from `causal`.

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
        seed: int,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__()
        check_sizes(tokens=tokens, out_channels=out_channels)
        self.embedding = nn.Embedding(tokens, channels)
        self.transformer = Transformer(channels, heads, layers=layers, causal=True, **options)
        self.head = XavierLinear(channels, out_channels)
        initialize(self, seed)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the results of every token."""
        sequences, steps = tokens.shape
        positions = torch.arange(steps, device=tokens.device).repeat(sequences)
        ptr = torch.arange(sequences + 1, device=tokens.device) * steps
        segments = Segments(ptr, None, sequences * steps, longest=steps)
        x = self.embedding(tokens.flatten())  # (rows, channels)
        x = x + sinusoids(positions, x.shape[1], x.dtype)
        y: Tensor = self.head(self.transformer(x, segments))
        return y.view(sequences, steps, y.shape[1])
