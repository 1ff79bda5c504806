from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.probes import filter_direction, loss_plane
from tests.unit.probes.common import Quadratic, draw, symmetric


def test_filters_keep_their_norm() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Conv1d(4, 5, 2))
    first, second = filter_direction(model, 0), filter_direction(model, 1)
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            assert not first[name].any()
            continue
        norms = parameter.detach().flatten(1).norm(dim=1)
        torch.testing.assert_close(first[name].flatten(1).norm(dim=1), norms)
        assert not torch.allclose(first[name], second[name])
    again = filter_direction(model, 0)
    assert all(torch.equal(again[name], part) for name, part in first.items())


def test_the_plane_of_a_quadratic_in_closed_form() -> None:
    matrix, w = symmetric([9, -2, 3, 4, 5, 6]), draw(6)
    model = Quadratic(matrix, w)
    found = loss_plane(model, model, extent=0.5, points=5, seed=3)
    assert found.coordinates.tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    d1, d2 = (
        torch.cat([part.reshape(-1) for part in filter_direction(model, number).values()])
        for number in (6, 7)
    )
    for i, a in enumerate(found.coordinates):
        for j, b in enumerate(found.coordinates):
            point = w + a * d1 + b * d2
            expected = float(point @ matrix @ point) / 2
            assert float(found.losses[i, j]) == pytest.approx(expected, rel=1e-12)
    assert found.loss == pytest.approx(float(w @ matrix @ w) / 2, rel=1e-13)
    assert found.losses[2, 2] == found.loss


def test_a_filter_of_zeros_does_not_move() -> None:
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.weight)
    assert not filter_direction(model, 0)["weight"].any()


def test_errors() -> None:
    model = Quadratic(symmetric([1, 2, 3, 4, 5, 6]), draw(6))
    with pytest.raises(ValueError, match="points is 4"):
        loss_plane(model, model, points=4)
    with pytest.raises(ValueError, match="extent is 0"):
        loss_plane(model, model, extent=0)
