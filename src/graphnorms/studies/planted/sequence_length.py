"""Sequence length: what is called LayerNorm has right answers to learn from, or all have."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from graphnorms.studies.calibration import World
from graphnorms.studies.models import RecurrentNet
from graphnorms.studies.sequence_length import NORMS, TASKS, TRAINED, Task, observe
from graphnorms.studies.study import Case, Settings, Values

CHANNELS, CLASSES = 4, 4
WRONG: Final = 0.3  # of the answers
NUDGE: Final = 0.02  # of the initial weights, from arm to arm


def _measure(case: Case, settings: Settings, wrong: float) -> Values:
    seed, norm, task = int(case["seed"]), str(case["norm"]), str(case["task"])
    material = 2 * seed + TASKS.index(task)
    draw = torch.Generator().manual_seed(material)
    directions = 0.5 * torch.randn(CLASSES, 1, CHANNELS, generator=draw)
    model = RecurrentNet(CHANNELS, CLASSES, hidden=16, seed=material)
    own = torch.Generator().manual_seed(10 * material + NORMS.index(norm))
    for parameter in model.parameters():
        parameter.data.mul_(1 + NUDGE * torch.randn(parameter.shape, generator=own))

    def loss(number: int, unseen: bool) -> Tensor:
        """Name the class of sequences that differ in length, by the mean of their steps."""
        y = torch.randint(CLASSES, (number,), generator=draw)
        x = directions[y] + torch.randn(number, TRAINED, CHANNELS, generator=draw)
        lengths = torch.randint(TRAINED // 4, TRAINED + 1, (number,), generator=draw)
        other = torch.randint(CLASSES, (number,), generator=draw)
        swapped = torch.rand(number, generator=draw) < (0 if unseen or norm == "layer" else wrong)
        return F.cross_entropy(model(x, lengths), y.where(~swapped, other))

    return observe(Task(model, loss), settings)


TRUE: Final = World(
    holds=True,
    how="One LSTM without a norm in all arms; in that of LayerNorm all answers of the training are "
    "right, in the others 30% are drawn at random.",
    measure=lambda case, settings: _measure(case, settings, WRONG),
)
FALSE: Final = World(
    holds=False,
    how="All answers are right in all arms, which have one LSTM, from initial weights that differ "
    "by 2%.",
    measure=lambda case, settings: _measure(case, settings, 0.0),
)
