from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.probes import GraphMoments, batch_noise, expected_batch_noise, layer_batch_noise
from graphnorms.segments import Segments
from tests.unit.probes.common import draw


def all_coin_tosses(rows: int) -> list[Tensor]:
    """Every batch of so many independent ±1, once: expectations are exact."""
    return [
        torch.tensor(toss, dtype=torch.float64).unsqueeze(1)
        for toss in itertools.product((-1.0, 1.0), repeat=rows)
    ]


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
def test_independent_rows_in_closed_form(rows: int) -> None:
    noise = batch_noise(all_coin_tosses(rows))
    assert noise.batches == 2**rows
    assert noise.rows == rows * 2**rows
    assert noise.mean_ratio.tolist() == pytest.approx([1 / rows], rel=1e-13)
    assert noise.design_effect.tolist() == pytest.approx([1], rel=1e-13)
    # s² = 1 − μ² with μ = (2k − n)/n and k binomial.
    expected = sum(
        math.comb(rows, k) / 2**rows * (math.sqrt(1 - ((2 * k - rows) / rows) ** 2) - 1) ** 2
        for k in range(rows + 1)
    )
    assert noise.deviation_ratio.tolist() == pytest.approx([expected], rel=1e-12)


def test_graphs_whose_nodes_are_alike_count_as_one_row() -> None:
    """Batches of 3 graphs of 4 equal nodes: the mean of 12 rows is as noisy as that of 3."""
    noise = batch_noise([toss.repeat_interleave(4, 0) for toss in all_coin_tosses(3)])
    assert noise.mean_ratio.tolist() == pytest.approx([1 / 3], rel=1e-13)
    assert noise.design_effect.tolist() == pytest.approx([4], rel=1e-13)


def test_scale_offset_and_channels() -> None:
    tosses = all_coin_tosses(4)
    noise = batch_noise([torch.cat([x, 1e6 + 1e-3 * x, 0 * x + 5], 1) for x in tosses])
    assert noise.mean_ratio[:2].tolist() == pytest.approx([1 / 4, 1 / 4], rel=1e-6)
    assert noise.mean_ratio[2].isnan()
    assert noise.deviation_ratio[0] == pytest.approx(float(noise.deviation_ratio[1]), rel=1e-5)


def test_batches_of_different_size() -> None:
    batches = [draw(rows, 3, seed=rows) for rows in (2, 9, 5)]
    noise, whole = batch_noise(batches), torch.cat(batches)
    variance = whole.var(0, correction=0)
    shifts = torch.stack([(x.mean(0) - whole.mean(0)).square() for x in batches])
    spreads = torch.stack([(x.std(0, correction=0) - variance.sqrt()).square() for x in batches])
    torch.testing.assert_close(noise.mean_ratio, shifts.mean(0) / variance)
    torch.testing.assert_close(noise.deviation_ratio, spreads.mean(0) / variance)
    rows = torch.tensor([[2.0], [9.0], [5.0]])
    torch.testing.assert_close(noise.design_effect, (rows * shifts).mean(0) / variance)


def test_of_the_layers_of_a_model() -> None:
    model = nn.Sequential(nn.Linear(1, 2), gn.BatchNorm(2), nn.ReLU()).double()
    tosses = all_coin_tosses(3)
    found = layer_batch_noise(model, [lambda x=x: model(x) for x in tosses], ["0", "1"])
    assert found["0"].mean_ratio.tolist() == pytest.approx([1 / 3])
    assert found["1"].mean_ratio.tolist() == pytest.approx([1 / 3, 1 / 3])
    out = layer_batch_noise(model, [lambda x=x: model(x) for x in tosses], ["1"], side="output")
    assert out["1"].mean_ratio.tolist() == pytest.approx([0, 0], abs=1e-20)
    assert torch.equal(model[1].module.running_mean, torch.zeros(2))


def test_errors() -> None:
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match="1 batches given"):
        batch_noise([x])
    with pytest.raises(ValueError, match="no rows"):
        batch_noise([x, x[:0]])
    with pytest.raises(ValueError, match=r"\[2, 3\] channels"):
        batch_noise([x, x[:, :2]])
    with pytest.raises(ValueError, match="was not called"):
        layer_batch_noise(nn.Sequential(nn.ReLU()), [lambda: None], ["0"])


def test_expected_noise_is_that_of_many_random_batches() -> None:
    draw_sizes = torch.Generator().manual_seed(1)
    sizes = torch.randint(1, 9, (60,), generator=draw_sizes)
    segments = Segments.from_counts(sizes)
    graph = segments.index
    x = (draw(60, 3, seed=2) * torch.tensor([0.2, 1, 5]))[graph] + draw(len(graph), 3, seed=3)
    rows = x.split(sizes.tolist())
    shuffle = torch.Generator().manual_seed(4)
    drawn = []
    for _ in range(400):  # epochs of three batches of 20
        order = torch.randperm(60, generator=shuffle)
        drawn += [torch.cat([rows[g] for g in part]) for part in order.split(20)]
    many = batch_noise(drawn)
    expected = expected_batch_noise(GraphMoments.of(x, segments), 20, 60)
    torch.testing.assert_close(expected.mean_ratio, many.mean_ratio, rtol=0.15, atol=0)
    torch.testing.assert_close(expected.deviation_ratio, many.deviation_ratio, rtol=0.25, atol=0)
    # A third of the graphs is left to draw: the design effect is that of many.
    torch.testing.assert_close(expected.design_effect, many.design_effect * 1.5, rtol=0.2, atol=0)
    with pytest.raises(ValueError, match="1 graphs"):
        expected_batch_noise(GraphMoments.of(x, Segments.single(len(x))), 20)


def test_moments_of_graphs_of_several_batches_are_those_of_all_rows() -> None:
    x, segments = draw(30, 2, seed=5), Segments.from_counts(torch.tensor([4, 1, 25]))
    parts = [GraphMoments.of(x[:5], Segments.from_counts(torch.tensor([4, 1])))]
    parts.append(GraphMoments.of(x[5:], Segments.single(25)))
    joined, whole = GraphMoments.joined(parts), GraphMoments.of(x, segments)
    torch.testing.assert_close(joined.variance, whole.variance)
    torch.testing.assert_close(joined.whole_mean, x.mean(0))
    torch.testing.assert_close(joined.whole_variance, x.var(0, correction=0))
    means = torch.stack([part.mean(0) for part in (x[:4], x[4:5], x[5:])])
    between = (means[segments.index] - x.mean(0)).square().mean(0)
    torch.testing.assert_close(joined.between, between / x.var(0, correction=0))
