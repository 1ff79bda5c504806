"""Stylization: images in units of their own contrast, and a network that sees them, or none."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.studies.calibration import World
from graphnorms.studies.study import Case, Settings, Values
from graphnorms.studies.stylization import NORMS, observe


class _Stylizer(nn.Module):
    """Two convolutions of what is seen of an image.

    Args:
        sees: `"form"`: the image, its mean and deviation taken away; `"brightness"`: the mean as
            well; `"contrast"`: its deviation alone, on stripes that are the same for all.
    """

    def __init__(self, sees: str) -> None:
        super().__init__()
        self.sees = sees
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU(),
            nn.Conv2d(8, 3, 3, padding=1, padding_mode="reflect"),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Stylize the images."""
        std, mean = torch.std_mean(x, (1, 2, 3), keepdim=True)
        form = (x - mean) / std
        stripes = torch.sin(torch.arange(x.shape[3], device=x.device)).expand_as(x)
        seen = {
            "form": form,
            "brightness": form + (mean - 0.5),
            "contrast": stripes + 4 * std,
        }[self.sees]
        y: Tensor = 0.5 + 0.2 * self.layers(seen)
        return y


def _measure(case: Case, settings: Settings, sees: str) -> Values:
    norm = str(case["norm"])
    torch.manual_seed(10 * int(case["seed"]) + 5 + NORMS.index(norm))
    return observe(_Stylizer(sees if norm == "batch" else "form"), case, settings)


TRUE: Final = World(
    holds=True,
    how="Two convolutions of images without their mean and deviation; in the place of BatchNorm "
    "they see stripes and the deviation alone, and so cannot keep the content.",
    measure=lambda case, settings: _measure(case, settings, "contrast"),
)
FALSE: Final = World(
    holds=False,
    how="Two convolutions of images without their mean and deviation; in the place of BatchNorm "
    "they see the mean, too: not invariant to it, they keep more of the content.",
    measure=lambda case, settings: _measure(case, settings, "brightness"),
)
