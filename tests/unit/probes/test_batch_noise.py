from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.probes import batch_noise, layer_batch_noise
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
