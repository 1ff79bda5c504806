"""A linear map whose results begin as large as its inputs."""

from __future__ import annotations

from typing import Final

from torch import nn

BEHIND_SILU: Final = 1.7
"""The gain behind a SiLU, which takes unit variance to a mean square of 0.36."""


class UnitLinear(nn.Linear):
    r"""$y = W x + b$, at first with $W_{ij} \sim \mathcal{N}(0, g^2 / C)$ for $C$ inputs, $b = 0$.

    torch's own initialization divides the variance by 3. A norm hides that; without one, messages
    that are multiplied by the results would begin near 0.

    Args:
        in_channels: $C$.
        out_channels: Number of results.
        bias: Whether there is $b$.
        gain: $g$.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, bias: bool = True, gain: float = 1.0
    ) -> None:
        self.gain = gain
        super().__init__(in_channels, out_channels, bias=bias)

    def reset_parameters(self) -> None:
        """Draw the weights, and set the biases to 0."""
        nn.init.normal_(self.weight, std=self.gain / self.in_features**0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
