"""Fused dropout: the share, the independence of the entries, and where the seed comes from."""

from __future__ import annotations

import pytest
import torch

import graphnorms as gn
from graphnorms.kernels.dropout import draw_seed
from graphnorms.segments import Segments
from tests.operands import kept


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_the_share_is_kept_overall_by_row_and_by_channel(share: float) -> None:
    stays = kept(4000, 250, share, 1).double()
    deviation = (share * (1 - share)) ** 0.5
    for values, number in ((stays.mean(), 10**6), (stays.mean(0), 4000), (stays.mean(1), 250)):
        z = (values - (1 - share)) / (deviation / number**0.5)
        # 4000 normal numbers are hardly ever beyond 5.
        assert z.abs().max() < 5
        if z.numel() > 1:
            assert 0.85 < z.var() < 1.15


@pytest.mark.parametrize("step", [(0, 1), (1, 0), (1, 1), (0, 16), (16, 0), (2, -1)])
def test_neighbours_are_independent(step: tuple[int, int]) -> None:
    stays = kept(2000, 500, 0.5, 2).double() * 2 - 1
    moved = torch.roll(stays, step, (0, 1))
    assert abs((stays * moved).mean()) < 5 / 1000  # a mean of 10⁶ signs


def test_seeds_give_independent_masks() -> None:
    masks = (
        torch.stack([kept(100, 1000, 0.5, seed).flatten() for seed in range(8)]).double() * 2 - 1
    )
    products = masks @ masks.t() / masks.shape[1]
    assert (products - torch.eye(8)).abs().max() < 5 / 10**2.5


def test_every_backend_drops_the_same(backend: str) -> None:
    for channels in (1, 3, 16, 70):
        assert torch.equal(
            kept(50, channels, 0.3, 2**61 + 12345, backend),
            kept(50, channels, 0.3, 2**61 + 12345, "reference"),
        )


def test_the_seed_follows_torchs() -> None:
    layer = gn.GraphNorm(8, dropout=0.5)
    x = torch.randn(30, 8)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(layer(x).detach())
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert not torch.equal(layer(x), layer(x))


def test_nothing_is_dropped_in_evaluation_and_nothing_is_drawn() -> None:
    layer = gn.GraphNorm(8, dropout=0.5).eval()
    x = torch.randn(30, 8)
    state = torch.get_rng_state()
    assert torch.equal(layer(x), gn.GraphNorm(8)(x))
    gn.GraphNorm(8, activation="relu")(x)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_backward_drops_what_the_forward_dropped(backend: str) -> None:
    x = torch.randn(40, 20, generator=torch.Generator().manual_seed(0)).requires_grad_()
    arguments = {"center": None, "scale": None, "backend": backend, "seed": torch.tensor(9)}
    y = gn.segment_normalize(x, Segments.single(40), dropout=0.25, **arguments)
    y.backward(torch.ones_like(y))
    assert x.grad is not None
    assert torch.equal(x.grad, torch.where(y == 0, 0.0, 1 / 0.75))


def test_checkpointing_draws_the_same_again() -> None:
    layer = gn.GraphNorm(8, dropout=0.5)
    x = torch.randn(30, 8, requires_grad=True)
    grads = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        y = (
            torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
            if checkpointed
            else layer(x)
        )
        grads.append(torch.autograd.grad(y.square().sum(), x)[0])
    assert torch.equal(*grads)


# Dynamo makes an instance of a Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled() -> None:
    torch._dynamo.reset()
    layer = gn.GraphNorm(8, activation="relu", dropout=0.4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(300, 8, requires_grad=True)
    y = compiled(x)
    (grad,) = torch.autograd.grad(y, layer.bias, torch.ones_like(y))
    share = float((y == 0).double().mean())
    assert 0.6 < share < 0.8  # half by ReLU, 40% of the rest
    assert torch.allclose(grad, (y != 0).sum(0) / 0.6)
    assert not torch.equal(compiled(x), y)


def test_exported() -> None:
    layer = gn.GraphNorm(8, dropout=0.4)
    program = torch.export.export(layer, (torch.randn(30, 8),)).module()
    share = float((program(torch.randn(30, 8)) == 0).double().mean())
    assert 0.2 < share < 0.6


def test_vmap_asks_for_the_kind_of_randomness_as_torchs_dropout_does() -> None:
    layer = gn.GraphNorm(8, dropout=0.4)
    x = torch.randn(3, 30, 8)
    with pytest.raises(RuntimeError, match="randomness"):
        torch.func.vmap(layer)(x)
    same = torch.func.vmap(layer, randomness="same")(x) == 0
    assert torch.equal(same[0], same[1])
    different = torch.func.vmap(layer, randomness="different")(x) == 0
    assert not torch.equal(different[0], different[1])


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_wrong_shares(share: float) -> None:
    with pytest.raises(ValueError, match="expected a number from 0 to below 1"):
        gn.GraphNorm(8, dropout=share)
    with pytest.raises(ValueError, match="expected a number from 0 to below 1"):
        gn.segment_normalize(
            torch.ones(3, 2), Segments.single(3), center=None, scale=None, dropout=share
        )


def test_wrong_seeds() -> None:
    for seed in (torch.tensor(1.0), torch.tensor([1]), torch.tensor(1, dtype=torch.int32)):
        with pytest.raises(ValueError, match="expected one int64 without a dimension"):
            gn.segment_normalize(
                torch.ones(3, 2),
                Segments.single(3),
                center=None,
                scale=None,
                dropout=0.5,
                seed=seed,
            )
    assert draw_seed(torch.device("cpu")).dtype == torch.int64
