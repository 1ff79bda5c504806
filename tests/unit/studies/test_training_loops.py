"""Training loops of the studies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.models import GNN, preset
from graphnorms.studies.mlp import MLP
from graphnorms.studies.training_loops import (
    Course,
    accuracy,
    learning_curve,
    minibatches,
    scale_weights,
)


def test_what_is_not_finite_names_no_class():
    model, y = nn.Identity(), torch.tensor([0, 0, 1])
    results = torch.tensor([[1.0, 0.0], [torch.nan, 0.0], [0.0, 1.0]])
    assert accuracy(model, lambda ids: results[ids], y) == pytest.approx(2 / 3)


def test_a_learning_curve_is_that_of_training():
    y = torch.arange(12) % 2
    x = nn.functional.one_hot(y, 2).float()
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, 0.0)
    model.bias.data = torch.tensor([3.0, 0.0])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    course = Course(steps=10, size=12, looks=5, seed=0, falling=True)
    curve = learning_curve(model, lambda ids: model(x[ids]), y, optimizer, course)
    assert len(curve) == 5
    assert curve[0] == 0.5  # still all of the first class
    assert curve[-1] == 1.0
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)  # a tenth, at the last step


def test_minibatches_go_through_all_items_before_they_repeat():
    batches = list(minibatches(10, 3, 7, seed=5))
    assert all(len(batch) == 3 for batch in batches)
    for epoch in (batches[:3], batches[3:6]):
        assert len(torch.cat(epoch).unique()) == 9
    assert not torch.equal(torch.cat(batches[:3]), torch.cat(batches[3:6]))
    again = list(minibatches(10, 3, 7, seed=5))
    assert all(map(torch.equal, batches, again))
    assert not torch.equal(batches[0], next(minibatches(10, 3, 1, seed=6)))


def test_scaled_weights_keep_the_size_of_signals():
    model = MLP(256, 10, width=256, depth=8, seed=0)
    scale_weights(model)
    x = torch.randn(500, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for layer in model.layers:
            x = layer(x)
    # The mean square of He's stays; that of torch's would fall by 6 a layer.
    assert 0.5 < x.square().mean() < 2
    assert not model.head.bias.any()


def test_scaled_weights_of_a_gcn_have_the_variance_of_he():
    model = GNN(preset("gcn"), "none", 7, 2, seed=0)
    scale_weights(model)
    weight = model.convolutions[1].linear.weight  # 64 × 64
    assert weight.var().item() == pytest.approx(2 / 64, rel=0.1)
