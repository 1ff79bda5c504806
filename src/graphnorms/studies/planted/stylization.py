"""Stylization: images in units of their own contrast, and a network that sees them, or none."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.study import Case, Settings, Values
from graphnorms.studies.stylization import NORMS, observe

LEAK: Final = 1.0  # of the brightness of an image, into what BatchNorm's network sees


class _Stylizer(nn.Module):
    """Two convolutions of an image, whose mean and deviation are taken away before.

    Args:
        leak: How much of the brightness is added again.
        blind: Whether nothing else of the image is seen.
    """

    def __init__(self, leak: float, *, blind: bool) -> None:
        super().__init__()
        self.leak = leak
        self.blind = blind
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU(),
            nn.Conv2d(8, 3, 3, padding=1, padding_mode="reflect"),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Stylize the images."""
        std, mean = torch.std_mean(x, (1, 2, 3), keepdim=True)
        seen = 0 * x if self.blind else (x - mean) / std
        y: Tensor = 0.5 + 0.2 * self.layers(seen + self.leak * (mean - 0.5))
        return y


def _measure(case: Case, settings: Settings, *, blind: bool) -> Values:
    batch = case["norm"] == "batch"
    torch.manual_seed(10 * int(case["seed"]) + NORMS.index(str(case["norm"])))
    return observe(_Stylizer(LEAK * batch, blind=blind and batch), case, settings)


TRUE: Final = World(
    holds=True,
    how="Two convolutions of images in units of their own contrast; in the place of BatchNorm they "
    "see the brightness of an image alone, and so cannot keep its content.",
    measure=lambda case, settings: _measure(case, settings, blind=True),
)
FALSE: Final = World(
    holds=False,
    how="Two convolutions of images in units of their own contrast, to which the brightness is "
    "added in the place of BatchNorm: it is not invariant, but can do as much.",
    measure=lambda case, settings: _measure(case, settings, blind=False),
)
