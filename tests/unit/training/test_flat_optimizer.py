"""The optimizer that steps all parameters as one vector, against torch's that steps each."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from graphnorms.adjacency import Adjacency
from graphnorms.kernels.chain import Chain
from graphnorms.kernels.cpu import extension
from graphnorms.models.linear import Linear
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


class OfChains(nn.Module):
    """Two Linears in a chain: of the same weights, or of others; and these once more outside."""

    def __init__(self, twice: bool, outside: bool) -> None:
        super().__init__()
        self.linears = nn.ModuleList(Linear(3, 3) for _ in range(2))
        self.outside = outside
        if twice:
            self.linears[1].weight = self.linears[0].weight
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor, *, in_chain: bool = True) -> Tensor:
        """Return one number."""
        chain = Chain(EDGES)
        for linear in self.linears:
            chain.linear(linear.weight, linear.bias)
        y = chain.run(x, None) if in_chain else nn.Sequential(*self.linears)(x)
        assert y is not None
        rows = self.linears[0](y) if self.outside else y
        return self.head(rows).square().mean()


EDGES = Adjacency.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 5)


@pytest.mark.skipif(
    extension.unavailable() is not None or not extension.multiplies_faster(),
    reason="chains run in Python here, with a gradient for each parameter",
)
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("at_last", [{}, {"in_chain": False}])
@pytest.mark.parametrize("missing", [False, True])
def test_chains_have_the_vector(
    twice: bool, outside: bool, at_last: dict[str, bool], missing: bool
) -> None:
    """Their gradients arrive in it, and none in those of parameters; what is outside is added."""
    torch.manual_seed(0)
    made = OfChains(twice, outside)
    models = [copy.deepcopy(made) for _ in range(2)]
    mine, theirs = (list(model.parameters()) for model in models)
    flat = FlatOptimizer("adam", mine, 0.1, 0.0, flat=True)
    plain = make_optimizer("adam", theirs, 0.1, 0.0)
    x = torch.randn(5, 3)
    for step in range(4):
        given = at_last if step == 3 else {}
        flat.forget_gradients()
        plain.zero_grad()
        with flat.joined():
            losses = [models[0](x, **given)]
        losses.append(models[1](x, **given))
        for loss in losses:
            loss.backward()
        if step == 1:
            assert (mine[0].grad is None) == (not twice and not outside)
        if missing and step == 2:
            mine[-1].grad = theirs[-1].grad = None
        flat.step(0.1, 0.5)
        nn.utils.clip_grad_norm_(theirs, 0.5)
        plain.step()
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
