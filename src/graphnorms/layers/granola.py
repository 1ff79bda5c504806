"""Granola: gain and bias of every node are predicted by a small GNN."""

from __future__ import annotations

import itertools
from typing import Unpack

import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.kernels import aggregate
from graphnorms.kernels.point import Over, Point, accumulation_dtype, check_residual
from graphnorms.layers.argument_checks import check_features
from graphnorms.layers.base import Norm
from graphnorms.layers.inner_batch_norm import dtype_of
from graphnorms.layers.neighbourhoods import check_adjacency
from graphnorms.layers.norm_options import KernelOptions, place
from graphnorms.segments import Segments


class Granola(Norm):
    r"""Standardize every node, then scale and shift it as a small GNN predicts.

    Random features $r_i \sim N(0, I)$ are drawn at every call, also in `eval()`. With
    $z = \mathrm{GNN}([x, r])$ and $\hat x$ the LayerNorm of each node without parameters,

    $$ y_i = f\big(\gamma_i \odot \hat x_i + \beta_i\big), \qquad
       (\gamma_i, \beta_i) = W z_i + b. $$

    The layers of the network are
    $h_i \leftarrow \mathrm{ReLU}\big(W'(h_i + \sum_{j \to i} h_j) + b'\big)$. Random features
    distinguish nodes that a network without them cannot, but make the results random; their
    distribution does not depend on the order of the nodes. Pass `random_features` to repeat a
    result.

    Shapes: `x` and the result `(nodes, channels)`; `random_features`
    `(nodes, random_channels)`. Precision: statistics in float32 or wider; the network runs in the
    same dtype or that of autocast; the result has the dtype of `x`.

    Args:
        in_channels: Number of channels.
        num_layers: Layers of the network.
        hidden_channels: Width of these layers; `None` for `in_channels`.
        random_channels: Width of $r$; `None` for `in_channels`, 0 for no random features.
        eps: $\varepsilon$ of $\hat x$, in the squared unit of `x`.
        activation, dropout, device, dtype, backend: See `Norm`.

    Raises:
        ValueError: `in_channels`, `num_layers`, `hidden_channels` or `eps` is not positive,
            `random_channels` is negative, `x` is not `(nodes, in_channels)`, `adjacency` is missing
            or has another number of nodes, or `random_features` has another shape.

    Source: Eliasof et al., NeurIPS 2024, https://arxiv.org/abs/2404.13344: $\gamma$ and $\beta$ of
    every node from a network on features, random features and edges. The layers of the network (GIN
    with one linear map) and the initialization ($\gamma$ about 1, $\beta$ about 0) are our choices,
    based on the paper alone: no code of the authors was read.
    """

    def __init__(
        self,
        in_channels: int,
        num_layers: int = 2,
        hidden_channels: int | None = None,
        random_channels: int | None = None,
        eps: float = 1e-5,
        **options: Unpack[KernelOptions],
    ) -> None:
        super().__init__(in_channels, eps=eps, **options)
        hidden = in_channels if hidden_channels is None else hidden_channels
        drawn = in_channels if random_channels is None else random_channels
        for name, number, least in (
            ("num_layers", num_layers, 1),
            ("hidden_channels", hidden, 1),
            ("random_channels", drawn, 0),
        ):
            if number < least:
                raise ValueError(f"{name} is {number}, expected {least} or more")
        self.random_channels = drawn
        widths = [in_channels + drawn, *[hidden] * num_layers]
        self.layers = nn.ModuleList(
            nn.Linear(before, after, **place(options))
            for before, after in itertools.pairwise(widths)
        )
        self.head = nn.Linear(hidden, 2 * in_channels, **place(options))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters of the network; the output bias is 1 for the gain and 0 for the
        shift."""
        for layer in (*self.layers, self.head):
            assert isinstance(layer, nn.Linear)
            layer.reset_parameters()
        gain, shift = self.head.bias.chunk(2)
        nn.init.ones_(gain)
        nn.init.zeros_(shift)

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
        adjacency: Adjacency | None = None,
        random_features: Tensor | None = None,
    ) -> Tensor:
        """Normalize `x`; `batch` is accepted and ignored.

        Args:
            x: The features.
            batch, batch_size: Taken like every layer's.
            residual: Added at the very end.
            mask: Which nodes count; the others, as padded ones, come out as they are and are
                nobody's neighbours.
            adjacency: The edges.
            random_features: $r$; `None` draws it from torch's generator.
        """
        check_features(x, self.in_channels)
        check_residual(residual, x)
        edges = check_adjacency(adjacency, x)
        shape = (x.shape[0], self.random_channels)
        if random_features is None:
            random_features = torch.randn(shape, device=x.device, dtype=accumulation_dtype(x.dtype))
        elif random_features.shape != shape:
            raise ValueError(
                f"random_features is {tuple(random_features.shape)}, expected one row per node, "
                f"{shape}"
            )
        drawn = random_features
        return self._transformed(x, residual, mask, lambda x: self._adapt(x, drawn, edges, mask))

    def _adapt(
        self, x: Tensor, random_features: Tensor, adjacency: Adjacency, mask: Tensor | None
    ) -> Tensor:
        x = x.to(accumulation_dtype(x.dtype))
        h = torch.cat((x, random_features.to(x.dtype)), 1)
        for layer in self.layers:
            if mask is not None:
                h = torch.where(mask.unsqueeze(1), h, 0)
            h = aggregate(h, adjacency, self_weight=1.0, backend=self.backend)
            h = torch.relu(layer(h.to(dtype_of(layer, h))))
        gain, shift = self.head(h.to(dtype_of(self.head, h))).to(x.dtype).chunk(2, dim=1)
        y: Tensor = gain * self._standardize(x, Point(Over.CHANNELS, Over.CHANNELS)) + shift
        return y

    def _own_repr(self) -> str:
        return f"{self.in_channels}, random_channels={self.random_channels}"
