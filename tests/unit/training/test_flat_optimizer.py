"""The optimizer that steps all parameters as one vector, against torch's that steps each."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from graphnorms.training.flat_optimizer import FlatOptimizer
from graphnorms.training.optimizer import make_optimizer

RATES = (0.1, 0.05, 0.02, 0.01)
CASES = [
    (text, missing)
    for text in ("adam", "adamw:amsgrad=true", "sgd")
    for missing in ((), (0,), (2,), (1, 2))
]


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 2), (4,), ())
    return [
        nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for shape in shapes
    ]


def gradients(step: int, like: list[nn.Parameter], without: int | None) -> None:
    generator = torch.Generator().manual_seed(step)
    for number, each in enumerate(like):
        grad = torch.randn(each.shape, generator=generator, dtype=torch.float64)
        each.grad = None if number == without else grad


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize(("text", "missing"), CASES, ids=str)
def test_steps_are_those_of_torch(text: str, missing: tuple[int, ...], clip: float | None) -> None:
    """A parameter without a gradient in some steps stays as it is there, in spite of the decay."""
    mine, theirs = parameters(), parameters()
    flat = FlatOptimizer(text, mine, 0.1, 0.3, flat=True)
    # torch's fused SGD refuses a parameter whose first gradient comes later than the others'.
    plain = make_optimizer("sgd:fused=false" if text == "sgd" else text, theirs, 0.1, 0.3)
    seen = [mine[1].detach().clone()]
    for step, rate in enumerate(RATES):
        for each in (mine, theirs):
            gradients(step, each, 1 if step in missing else None)
        for group in plain.param_groups:
            group["lr"] = rate
        if clip is not None:
            nn.utils.clip_grad_norm_(theirs, clip)
        plain.step()
        flat.step(rate, clip)
        seen.append(mine[1].detach().clone())
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    moved = [not torch.equal(before, after) for before, after in pairwise(seen)]
    assert moved == [step not in missing for step in range(len(RATES))]
    joined = mine[0].data_ptr() + mine[0].nbytes == mine[1].data_ptr()
    assert joined == (0 not in missing)


def test_a_frozen_parameter_is_no_part_of_the_vector() -> None:
    mine = parameters()
    mine[0].requires_grad_(False)
    before = mine[0].clone()
    optimizer = FlatOptimizer("adam", mine, 0.1, 0.3, flat=True)
    gradients(0, mine, 0)
    optimizer.step(0.1)
    assert torch.equal(mine[0], before)
    assert mine[1].data_ptr() + mine[1].nbytes == mine[2].data_ptr()
    optimizer.forget_gradients()
    assert all(each.grad is None for each in mine)
