"""The block of a graph transformer: message passing and attention, then a feed-forward network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graphnorms.kernels import aggregate
from graphnorms.models.attention import Attention
from graphnorms.models.convolutions import gine_sum, scale_weights
from graphnorms.models.linear import Linear
from graphnorms.models.model_config import ModelConfig
from graphnorms.models.norm_slot import GraphContext, NormFactory

_PARTS = 3


class LocalGIN(nn.Module):
    r"""GIN without a norm: an MLP of two Linears on $(1 + \varepsilon) x$ and the neighbours.

    With edge features the sum is that of GINE.

    Args:
        channels: Width of the features.
        edge_channels: Width of the edge features; 0 if there are none.
        self_weight: $1 + \varepsilon$.
    """

    def __init__(self, channels: int, edge_channels: int, self_weight: float) -> None:
        super().__init__()
        self.self_weight = self_weight
        self.edge_linear = Linear(edge_channels, channels) if edge_channels else None
        self.linear = Linear(channels, channels)
        self.linear2 = Linear(channels, channels)

    def forward(self, x: Tensor, context: GraphContext) -> Tensor:
        """Convolve the features of a batch of graphs."""
        if self.edge_linear is None:
            x = aggregate(x, context.adjacency, self_weight=self.self_weight)
        else:
            if context.edge_features is None:
                raise ValueError("the graphs have no edge features, which this GPS was built for")
            x = gine_sum(x, self.edge_linear(context.edge_features), context, self.self_weight)
        y: Tensor = self.linear2(self.linear(x).relu())
        return y


class GPSLayer(nn.Module):
    r"""Message passing and attention side by side, then a feed-forward network.

    With $M$ a GIN (with edge features a GINE), $T$ attention over all nodes of the graph and
    $F(x) = W_2 \mathrm{ReLU}(W_1 x + b_1) + b_2$ of twice the width, and a norm $N$ at every place,

    | place | first | then |
    |---|---|---|
    | post | $h = N_1(x + M(x)) + N_2(x + T(x))$ | $N_3(h + F(h))$ |
    | pre | $h = x + M(N_1(x)) + T(N_2(x))$ | $h + F(N_3(h))$ |
    | sandwich | $h = x + N_1'(M(N_1(x))) + N_2'(T(N_2(x)))$ | $h + N_3'(F(N_3(h)))$ |

    post is the published layer; post with the residual after the norm is
    $h = x + N_1(M(x)) + N_2(T(x))$ and $h + N_3(F(h))$. Where the sum is last, the stack ends with
    one more norm. See `ModelConfig.residual_place` for ReZero and DeepNorm.

    Shapes: `x` and the result `(nodes, channels)`.

    Args:
        config: The architecture; its `hidden` is the width.
        norm: Makes a normalization without an activation, a `NormSlot`.
        edge_channels: Width of the edge features; 0 if there are none.

    Source: Rampášek et al. 2022, https://arxiv.org/abs/2205.12454, `GPSLayer` of rampasek/GraphGPS
    and `GPSConv` of torch_geometric 2.8; pre: Xiong et al. 2020, https://arxiv.org/abs/2002.04745;
    sandwich: Kim et al. 2025, https://arxiv.org/abs/2502.02732; post with the residual after the
    norm: Liu et al. 2022, https://arxiv.org/abs/2111.09883.
    """

    def __init__(self, config: ModelConfig, norm: NormFactory, edge_channels: int = 0) -> None:
        super().__init__()
        channels, place = config.hidden, config.norm_place
        assert config.heads is not None
        self.local = LocalGIN(channels, edge_channels, config.self_weight)
        self.attention = Attention(
            channels, config.heads, config.attention_dropout or 0.0, config.qk_norm or "none"
        )
        self.linear1 = Linear(channels, 2 * channels)
        self.linear2 = Linear(2 * channels, channels)
        self.norms_before = _norms(norm, channels, place != "post")
        self.norms_after = _norms(norm, channels, place != "pre")
        self.sums_before_norm = config.sums_before_norm
        self.residual_scale, _ = config.deepnorm
        self.gains = nn.Parameter(torch.zeros(_PARTS)) if config.is_rezero else None
        self.dropout = nn.Dropout(config.layer_dropout or 0.0)

    def shrink(self, factor: float) -> None:
        """Multiply the weights of all parts, as DeepNorm's initialization does."""
        local = self.local
        scale_weights(factor, local.linear, local.linear2, self.linear1, self.linear2)
        self.attention.shrink(factor)

    def forward(self, x: Tensor, context: GraphContext) -> Tensor:
        """Transform the nodes of a batch of graphs; the context has `blocks`."""
        blocks = context.blocks
        assert blocks is not None
        parts: tuple[Callable[[Tensor], Tensor], ...] = (
            lambda x: self.local(x, context),
            lambda x: self.attention(x, blocks),
        )
        if self.sums_before_norm:
            first, second = (self._add(i, part, x, x, context) for i, part in enumerate(parts))
            h = first + second
        else:
            h = x
            for i, part in enumerate(parts):
                h = self._add(i, part, x, h, context)
        return self._add(2, self._feed, h, h, context)

    def _feed(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear2(self.dropout(self.linear1(x).relu()))
        return y

    def _add(
        self,
        number: int,
        part: Callable[[Tensor], Tensor],
        x: Tensor,
        onto: Tensor,
        context: GraphContext,
    ) -> Tensor:
        """Add a part of `x` with its norms onto the residual stream."""
        y: Tensor = x
        if self.norms_before is not None:
            y = self.norms_before[number](x, context, source=x)
        y = self.dropout(part(y))
        onto = onto if self.residual_scale == 1 else self.residual_scale * onto
        norm: Callable[..., Tensor] | None = None
        if self.norms_after is not None:
            norm = self.norms_after[number]
        if self.gains is None:
            return onto + y if norm is None else norm(y, context, source=x, residual=onto)
        gain = self.gains[number].to(y.dtype)
        if norm is not None and self.sums_before_norm:
            return norm(gain * y, context, source=x, residual=onto)
        return onto + gain * (y if norm is None else norm(y, context, source=x))


def _norms(norm: NormFactory, channels: int, wanted: bool) -> nn.ModuleList | None:
    return nn.ModuleList(norm(channels) for _ in range(_PARTS)) if wanted else None
