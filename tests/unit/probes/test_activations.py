from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphnorms import probes
from graphnorms.probes import (
    activation_quantiles,
    captured,
    quantile_drift,
    quantiles,
)
from tests.unit.probes.common import draw


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_quantiles_are_numpys(rows: int) -> None:
    x = draw(rows, 4)
    expected = np.quantile(x.numpy(), probes.QUANTILES, axis=0)
    np.testing.assert_allclose(quantiles(x).numpy(), expected, rtol=1e-13)


def test_quantiles_of_a_known_distribution() -> None:
    x = torch.arange(101.0).unsqueeze(1)  # the quantile of p is 100 p
    assert quantiles(x, (0, 0.15, 0.5, 0.855, 1)).squeeze().tolist() == pytest.approx(
        [0, 15, 50, 85.5, 100]
    )


def test_quantiles_of_a_layer_unit_by_unit() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    x = torch.arange(101.0).unsqueeze(1).expand(101, 2)
    # Before the activation, although it works in place.
    found = activation_quantiles(model, lambda: model(x), ["0"])["0"]
    torch.testing.assert_close(found, torch.tensor([[15.0, -170.0], [50.0, -100.0], [85.0, -30.0]]))
    found = activation_quantiles(model, lambda: model(x), ["0"], side="input", pooled=True)["0"]
    assert found.tolist() == quantiles(x.reshape(-1, 1)).squeeze().tolist()


def test_calls_of_a_layer_are_put_together() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.LSTM(2, 2)  # returns several things, the first of them features

        def forward(self, x: Tensor) -> Tensor:
            return self.part(self.part(x)[0])[0]

    model, x = Twice(), torch.randn(3, 1, 2)
    with captured(model, ["part"]) as seen:
        y = model(x)
    assert [call.shape for call in seen["part"]] == [(3, 1, 2), (3, 1, 2)]
    assert torch.equal(seen["part"][1], y)
    assert not seen["part"][0].requires_grad
    with captured(model, ["part"], "input") as seen:
        model(x=x)
    assert torch.equal(seen["part"][0], x)


def test_drift_of_a_known_trajectory() -> None:
    still = torch.tensor([[-1.0, 0.0, 3.0]]).expand(5, 3)
    assert quantile_drift(still) == 0
    # A shift by ±d at equal width: standard deviation d over the width.
    shift = torch.tensor([1.0, -1.0, 1.0, -1.0]).unsqueeze(1)
    moving = torch.tensor([[-1.0, 0.0, 3.0]]) + 2 * shift
    assert float(quantile_drift(moving)) == pytest.approx(2 / 4)
    assert float(quantile_drift(7 * moving + 100)) == pytest.approx(2 / 4)
    # Units side by side are looked at alone.
    both = torch.stack([still[:4], moving], 2)
    assert quantile_drift(both).tolist() == pytest.approx([0, 0.5])


def test_errors() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(ValueError, match="did you mean"), captured(model, ["0", "00"]):
        pass
    assert not model[0]._forward_hooks
    with pytest.raises(ValueError, match="unknown side 'inputs'"), captured(model, ["0"], "inputs"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ValueError, match="was not called"):
        activation_quantiles(model, lambda: None, ["0"])
    with pytest.raises(ValueError, match=r"a probability is 1\.5"):
        quantiles(torch.ones(2, 2), (1.5,))
    with pytest.raises(ValueError, match="no rows"):
        quantiles(torch.ones(0, 2))
    with pytest.raises(ValueError, match="two or more"):
        quantile_drift(torch.ones(1, 3))
    wordy = Wordy()
    with captured(wordy, [""]), pytest.raises(ValueError, match="returns no tensor"):
        wordy()


class Wordy(nn.Module):
    def forward(self) -> str:
        return "nothing"
