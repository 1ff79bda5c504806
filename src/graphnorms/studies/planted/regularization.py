"""Regularization: what is called BatchNorm does not see what only fits the samples, or does."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.models import MLP
from graphnorms.studies.calibration import World
from graphnorms.studies.material import scale_weights
from graphnorms.studies.regularization import ARMS, Data, observe
from graphnorms.studies.study import Case, Settings, Values

CLASSES: Final = 4
NUDGE: Final = 0.02  # of the initial weights, from arm to arm
TRAINED, TESTED = 64, 512
TELLING, NOISE = 8, 56  # channels


class _Masked(nn.Module):
    """A model of features some of which are set to 0."""

    def __init__(self, model: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.model = model
        self.mask = mask

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x * self.mask)
        return y


def _measure(case: Case, settings: Settings, *, blind: bool) -> Values:
    seed, norm = int(case["seed"]), str(case["norm"])
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (TRAINED + TESTED,), generator=draw)
    x = torch.randn(len(y), TELLING + NOISE, generator=draw)
    x[:, :TELLING] += 2 * torch.randn(CLASSES, TELLING, generator=draw)[y]
    x *= 2  # so that the rate of the study is large enough for few steps
    mask = torch.ones(TELLING + NOISE)
    if blind and norm == "batch":
        mask[TELLING:] = 0
    mlp = MLP(TELLING + NOISE, CLASSES, width=32, depth=1, seed=seed)
    scale_weights(mlp)
    own = torch.Generator().manual_seed(10 * seed + ARMS.index(norm))
    for parameter in mlp.parameters():
        nudge = torch.randn(parameter.shape, generator=own)
        parameter.data.mul_(1 + NUDGE * nudge)
    data = Data(x[:TRAINED], y[:TRAINED], x[TRAINED:], y[TRAINED:])
    return observe(_Masked(mlp, mask), data, case, settings)


TRUE: Final = World(
    holds=True,
    how="64 channels, of which 8 tell the class; an MLP without a norm in all arms, and in that "
    "of BatchNorm it does not see the 56 channels of noise.",
    measure=lambda case, settings: _measure(case, settings, blind=True),
)
FALSE: Final = World(
    holds=False,
    how="The same data; all arms are the same MLP without a norm, which sees all channels, from "
    "initial weights that differ by 2%.",
    measure=lambda case, settings: _measure(case, settings, blind=False),
)
