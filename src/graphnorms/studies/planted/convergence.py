"""Convergence: linear classifiers of features whose telling part is small, or is not."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.models import derive_seed
from graphnorms.studies.calibration import World
from graphnorms.studies.convergence import NORMS, Task, observe
from graphnorms.studies.material import Logits
from graphnorms.studies.study import Case, Settings, Values

ITEMS: Final = 240
CLASSES: Final = 4
HALF: Final = 16  # channels that tell, and as many of noise
SMALL: Final = 0.05  # of the channels that tell, where training is slow
SPREAD: Final = 0.02  # of that, from arm to arm


def _task(seed: int, small: float) -> Task:
    """Rotated, so that no step by the channel, as Adam's, sees which ones are small."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (ITEMS,), generator=draw)
    telling = torch.randn(ITEMS, HALF, generator=draw)
    telling += 0.7 * torch.randn(CLASSES, HALF, generator=draw)[y]
    noise = torch.randn(ITEMS, HALF, generator=draw)
    rotation = torch.linalg.qr(torch.randn(2 * HALF, 2 * HALF, generator=draw))[0]
    x = torch.cat([small * telling, noise], 1) @ rotation

    def make(seed: int) -> tuple[nn.Module, Logits]:
        model = nn.Linear(2 * HALF, CLASSES)
        own = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            model.weight.copy_(0.1 * torch.randn(model.weight.shape, generator=own))
            model.bias.zero_()

        def logits(ids: Tensor) -> Tensor:
            y: Tensor = model(x[ids])
            return y

        return model, logits

    return Task(make, y)


def _measure(case: Case, settings: Settings, *, holds: bool) -> Values:
    norms = NORMS[str(case["model"])]
    seed = derive_seed(int(case["seed"]), case["model"], case["data"])
    draw = torch.Generator().manual_seed(derive_seed(seed, case["norm"]))
    small = SMALL * float(1 + SPREAD * torch.randn(1, generator=draw))
    fast = holds and case["norm"] == norms[-1]
    return observe(_task(seed, 1.0 if fast else small), case, settings)


TRUE: Final = World(
    holds=True,
    how="Linear classifiers of 32 rotated channels, of which 16 tell the class; these are 0.05 "
    "times as large as the noise of the others but with the norm that is claimed to be the "
    "fastest, where they are as large.",
    measure=lambda case, settings: _measure(case, settings, holds=True),
)
FALSE: Final = World(
    holds=False,
    how="The same classifiers; with every norm the channels that tell are 0.05 times as large, 2% "
    "give or take.",
    measure=lambda case, settings: _measure(case, settings, holds=False),
)
