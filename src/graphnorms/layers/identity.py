"""Identity: no normalization, the baseline of every comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphnorms.kernels.api import activate
from graphnorms.layers.checks import (
    check_activation,
    check_channels,
    check_features,
    with_activation,
)
from graphnorms.segments import Segments


class Identity(nn.Module):
    r"""Normalize nothing: $y = f(x)$.

    It takes what every normalization takes, so that a model can be built without one.

    Shapes: `x` and the result `(nodes, channels)`.

    Args:
        in_channels: Number of channels.
        activation: $f$: `None` or `"relu"`.
        device, dtype: Taken like every layer's; there are no parameters.

    Raises:
        ValueError: `in_channels` is not positive, or `x` is not `(nodes, in_channels)`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        activation: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_channels(in_channels)
        check_activation(activation)
        self.in_channels = in_channels
        self.activation = activation

    def reset_parameters(self) -> None:
        """Do nothing: there are none."""

    def forward(
        self,
        x: Tensor,
        batch: Tensor | Segments | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Return `x`, activated if the layer has an activation."""
        check_features(x, self.in_channels)
        return activate(x, self.activation)

    def extra_repr(self) -> str:
        """Return the channels, and the activation if there is one."""
        return with_activation(str(self.in_channels), self.activation)
