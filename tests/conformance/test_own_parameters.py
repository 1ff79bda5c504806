"""Weight and bias of every segment's own, in every domain of the statistics."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import graphnorms as gn
from graphnorms.segments import Segments
from graphnorms.testing import tolerance

DOMAINS = [None, gn.Over.NODES, gn.Over.CHANNELS, gn.Over.BOTH]
PAIRS = [
    (center, scale)
    for center, scale in itertools.product(DOMAINS, DOMAINS)
    if (gn.Over.CHANNELS in (center, scale)) <= ({center, scale} <= {None, gn.Over.CHANNELS})
    and (center, scale) != (gn.Over.BOTH, gn.Over.NODES)
]
COUNTS = {
    "few": [3, 1, 0, 5, 2],
    "long": [1500, 3, 0, 2600, 170],  # over several tasks of a thread
    "many": [2] * 700 + [0] * 3,
}


@pytest.mark.parametrize("kinds", ["sorted", "unsorted", "masked"])
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize(("center", "scale"), PAIRS)
def test_as_if_spread_over_the_rows(
    center: gn.Over | None, scale: gn.Over | None, counts: str, kinds: str, backend: str
) -> None:
    """Normalizing, then multiplying by each row's own weight in plain torch, is the same."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor(COUNTS[counts])
    batch = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    if kinds != "sorted":
        batch = batch[torch.randperm(batch.shape[0], generator=generator)]
    segments = Segments.from_batch(batch, len(sizes))
    counted = torch.ones(batch.shape[0], 1, dtype=torch.bool)
    if kinds == "masked":
        counted = torch.rand(batch.shape[0], 1, generator=generator) < 0.7
        segments = segments.with_mask(counted[:, 0])
    x = torch.randn(batch.shape[0], 18, generator=generator).requires_grad_()
    weight, bias = (torch.rand(2, len(sizes), 18, generator=generator) + 0.5).unbind()
    grad_y = torch.randn(x.shape, generator=generator)
    leaves = [weight.requires_grad_(), bias.requires_grad_()]
    y = gn.segment_normalize(
        x,
        segments,
        center=center,
        scale=scale,
        groups=3,
        weight=weight,
        bias=bias,
        activation="silu",
        backend=backend,
    )
    got = torch.autograd.grad(y, [x, *leaves], grad_y)

    exact_x = x.detach().double().requires_grad_()
    exact_leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
    plain = gn.segment_normalize(
        exact_x, segments, center=center, scale=scale, groups=3, backend="reference"
    )
    pre = plain * exact_leaves[0][batch] + exact_leaves[1][batch]
    exact_y = torch.where(counted, pre * torch.sigmoid(pre), exact_x)
    exact = torch.autograd.grad(exact_y, [exact_x, *exact_leaves], grad_y.double())
    longest = int(segments.counts.max())
    for mine, other, length in zip(
        (y, *got), (exact_y, *exact), (18 * longest, 18 * longest, longest, longest), strict=True
    ):
        # Relative to the largest, and to the size 1 of an entry of x and of grad_y.
        terms = 1 if length != longest else longest**0.5
        size = max(float(other.detach().abs().max()), terms)
        allowed = 4 * tolerance(torch.float32, length)
        if scale is not None:
            size *= float(largest_rstd(x.detach(), batch, counted, scale))
        assert (mine.double() - other).abs().max() <= allowed * size


def largest_rstd(x: Tensor, batch: Tensor, counted: Tensor, scale: gn.Over) -> Tensor:
    """1 / the smallest spread of any cell, which multiplies what rounding leaves."""
    if scale is gn.Over.CHANNELS:
        return x.view(-1, 3, 6).var(2, unbiased=False).add(1e-5).rsqrt().max()
    rows = [x[(batch == s) & counted[:, 0]] for s in batch.unique()]
    if scale is gn.Over.NODES:
        spreads = [cell.var(0, unbiased=False) for cell in rows if cell.shape[0]]
    else:
        spreads = [cell.reshape(-1, 3, 6).var((0, 2), unbiased=False) for cell in rows if len(cell)]
    return torch.cat(spreads).add(1e-5).rsqrt().max().clamp(min=1)


@pytest.mark.parametrize("over", list(gn.Over))
def test_gradcheck_and_gradgradcheck(over: gn.Over, backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    segments = Segments.from_batch(torch.tensor([1, 0, 1, 1, 0, 3, 1]), 4)
    x = torch.randn(7, 4, generator=generator, dtype=torch.float64).requires_grad_()
    weight, bias = (torch.rand(2, 4, 4, generator=generator, dtype=torch.float64) + 0.5).unbind()

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return gn.segment_normalize(
            x,
            segments,
            center=over,
            scale=over,
            groups=2,
            weight=weight,
            bias=bias,
            activation="gelu",
            backend=backend,
        )

    inputs = (x, weight.requires_grad_(), bias.requires_grad_())
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("over", list(gn.Over))
def test_same_bits_for_every_number_of_threads(over: gn.Over, threads: None) -> None:
    generator = torch.Generator().manual_seed(0)
    batch = torch.repeat_interleave(torch.arange(4), torch.tensor([5000, 20, 3000, 4000]))
    x = torch.randn(batch.shape[0], 33, generator=generator).requires_grad_()
    weight = torch.rand(4, 33, generator=generator).requires_grad_()
    grad_y = torch.randn(x.shape, generator=generator)
    results = []
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        y = gn.segment_normalize(
            x, Segments.from_batch(batch, 4), center=over, scale=over, weight=weight
        )
        results.append([y.detach(), *torch.autograd.grad(y, [x, weight], grad_y)])
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_wrong_shapes() -> None:
    x, segments = torch.zeros(4, 3), Segments.from_batch(torch.tensor([0, 0, 1, 1]))
    arguments = {"center": gn.Over.NODES, "scale": gn.Over.NODES}
    with pytest.raises(ValueError, match=r"weight is \(3, 3\), expected .* \(2, 3\)"):
        gn.segment_normalize(x, segments, weight=torch.ones(3, 3), **arguments)
    with pytest.raises(ValueError, match=r"weight is \(2, 3\) and bias \(3,\), expected one shape"):
        gn.segment_normalize(x, segments, weight=torch.ones(2, 3), bias=torch.ones(3), **arguments)
