"""Identity: no normalization, the baseline of every comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.kernels.problem import check_residual
from graphnorms.layers.base import Norm
from graphnorms.layers.checks import (
    check_features,
)
from graphnorms.segments import Segments, check_mask


class Identity(Norm):
    r"""Normalize nothing: $y = f(x)$.

    It takes what every normalization takes, so that a model can be built without one.

    Shapes: `x` and the result `(nodes, channels)`.

    Args:
        in_channels: Number of channels.
        activation: $f$: `None`, `"relu"`, `"leaky_relu"`, `"gelu"` or `"silu"`.
        dropout: Share of the entries to drop in training.
        device, dtype: Taken like every layer's; there are no parameters.

    Raises:
        ValueError: `in_channels` is not positive, or `x` is not `(nodes, in_channels)`.
    """

    per_graph = False

    def __init__(
        self,
        in_channels: int,
        *,
        activation: str | None = None,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_channels, activation, dropout)

    def reset_parameters(self) -> None:
        """Do nothing: there are none."""

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
        *,
        residual: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return `x`, with what every layer can have fused behind it."""
        check_features(x, self.in_channels)
        check_residual(residual, x)
        if mask is not None:
            check_mask(mask, x.shape[0], x.device)
        return self._finish(x, residual, mask)
