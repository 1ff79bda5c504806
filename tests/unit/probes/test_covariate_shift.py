from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from graphnorms.probes import covariate_shift
from tests.unit.probes.common import draw, noisy_network, state


def chain(*weights: float) -> nn.Sequential:
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in weights)).double()
    with torch.no_grad():
        for layer, weight in zip(model, weights, strict=True):
            layer.weight.fill_(weight)
    return model


def test_a_product_of_three_numbers_in_closed_form() -> None:
    """L = ½(w₃w₂w₁ − 1)²: Gᵢ = (w₃w₂w₁ − 1) Π_{j≠i} wⱼ."""
    w, rate = [0.5, 2.0, 3.0], 0.01
    model = chain(*w)
    one = torch.ones(1, 1, dtype=torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), rate)

    def loss() -> Tensor:
        return (model(one) - 1).square().sum() / 2

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    def gradient(point: list[float], layer: int) -> float:
        product = math.prod(point)
        return (product - 1) * product / point[layer]

    new = [value - rate * gradient(w, layer) for layer, value in enumerate(w)]
    found = covariate_shift(model, loss, step)
    assert list(found) == ["0", "1", "2"]
    for layer in range(3):
        before = gradient(w, layer)
        after = gradient(new[:layer] + w[layer:], layer)  # those above stay, too
        shift = found[str(layer)]
        assert shift.difference == pytest.approx(abs(before - after), rel=1e-12)
        assert shift.before == pytest.approx(abs(before), rel=1e-12)
        assert shift.after == pytest.approx(abs(after), rel=1e-12)
        assert shift.cosine == pytest.approx(math.copysign(1, before * after))
        assert shift.relative == pytest.approx(abs(before - after) / abs(before), rel=1e-12)
    assert found["0"].difference == 0
    assert [layer.weight.item() for layer in model] == pytest.approx(new, rel=1e-14)


def test_the_cosine_of_a_gradient_that_turns() -> None:
    """L = c·(W x) with x made below: G = c xᵀ, so the angle is that between x and x'."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [0.0]]))

    def step() -> None:
        with torch.no_grad():
            model[0].weight.copy_(torch.tensor([[1.0], [math.sqrt(3)]]))  # 60° away

    shift = covariate_shift(model, lambda: model(torch.ones(1, 1).double()).sum(), step)["1"]
    assert shift.cosine == pytest.approx(0.5)
    assert shift.difference == pytest.approx(math.sqrt(3))
    assert shift.after == pytest.approx(2)


def test_training_goes_on_as_if_nothing_had_been_measured() -> None:
    """Dropout, running averages and Adam, three steps with and without."""
    ends = []
    for measured in (False, True):
        model, loss = noisy_network()
        optimizer = torch.optim.Adam(model.parameters(), 0.1)

        def step(loss=loss, optimizer=optimizer) -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        torch.manual_seed(8)
        for _ in range(3):
            if measured:
                found = covariate_shift(model, loss, step)
                assert found["7"].difference > 0
            else:
                step()
        ends.append(state(model))
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_layers_as_named() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3)), nn.Linear(3, 1)).double()
    x = draw(5, 2)

    def step() -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)

    found = covariate_shift(model, lambda: model(x).square().mean(), step, ["0", "1"])
    assert list(found) == ["0", "1"]
    assert found["0"].difference == 0
    assert found["1"].difference > 0
    assert covariate_shift(model, lambda: model(x).mean(), step, []) == {}
    for layers, words in ((["2"], "unknown layer"), (["0", "0.1"], "shares parameters")):
        with pytest.raises(ValueError, match=words):
            covariate_shift(model, lambda: model(x).mean(), step, layers)
    flat = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with pytest.raises(ValueError, match="no learned parameters"):
        covariate_shift(flat, lambda: flat(torch.ones(1, 2)).sum(), step, ["1"])
