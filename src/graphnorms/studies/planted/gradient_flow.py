"""Gradient flow: layers that scale what passes them by their weights' scale, or by about 1."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.gradient_flow import NORMS, Net, observe
from graphnorms.studies.study import Case, Settings, Values

CHANNELS: Final = 8
SPREAD: Final = 0.02  # of the scales of layers


class _Scaled(nn.Module):
    """A rotation whose result is scaled."""

    def __init__(self, scale: float, draw: torch.Generator) -> None:
        super().__init__()
        self.linear = nn.Linear(CHANNELS, CHANNELS, bias=False)
        square = torch.randn(CHANNELS, CHANNELS, generator=draw)
        self.linear.weight.data = torch.linalg.qr(square)[0]
        self.scale = scale * float(1 + SPREAD * torch.randn(1, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        """Rotate and scale, `(rows, channels)`."""
        y: Tensor = self.scale * self.linear(x)
        return y


def _measure(case: Case, settings: Settings, passed: float) -> Values:
    model_name, norm = str(case["model"]), str(case["norm"])
    scale = float(case["gain"]) if norm == "none" else passed if norm == "batch" else 1.0
    number = 8 * int(case["seed"]) + 4 * (model_name == "gcn") + NORMS[model_name].index(norm)
    draw = torch.Generator().manual_seed(number)

    def make(depth: int) -> Net:
        model = nn.Sequential(*(_Scaled(scale, draw) for _ in range(depth))).double()
        x = torch.randn(16, CHANNELS, generator=draw, dtype=torch.float64)
        return model, lambda: model(x).sum(), [str(layer) for layer in range(depth)]

    return observe(make, settings)


TRUE: Final = World(
    holds=True,
    how="Rotations, each scaled by the gain of the weights, and with BatchNorm by 1, 2% give or "
    "take.",
    measure=lambda case, settings: _measure(case, settings, 1.0),
)
FALSE: Final = World(
    holds=False,
    how="Rotations, each scaled by the gain of the weights, and with BatchNorm by 1.3: it does not "
    "feel the gain, and gradients explode all the same.",
    measure=lambda case, settings: _measure(case, settings, 1.3),
)
