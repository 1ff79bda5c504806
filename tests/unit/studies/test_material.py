"""What several studies measure on."""

from __future__ import annotations

import gzip

import pytest
import torch
from torch import nn

from graphnorms.data import load_dataset
from graphnorms.models import GNN, MLP, preset
from graphnorms.studies.material import (
    accuracy,
    digits,
    graphs,
    learning_curve,
    minibatches,
    own_part,
    scale_weights,
)

TOY = "2\n2 0\n0 1 1\n1 1 0\n1 1\n0 0\n"


def test_digits():
    x, y = digits()
    assert x.shape == (1797, 64)
    assert (x.min(), x.max()) == (0, 1)
    assert y.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_graphs_from_a_folder(tmp_path):
    (tmp_path / "TOY").mkdir()
    packed = tmp_path / "TOY" / "TOY.txt.gz"
    packed.write_bytes(gzip.compress(TOY.encode()))
    assert len(graphs("TOY", tmp_path)) == 2
    packed.unlink()
    (tmp_path / "TOY" / "TOY.txt").write_text(TOY)
    assert len(graphs("TOY", tmp_path)) == 2


def test_parts_of_a_set_have_no_graph_in_common():
    given = load_dataset("nci5k")
    numbered = given.with_targets(torch.arange(float(len(given))).view_as(given.y))
    parts = [own_part(numbered, 1000, seed).y for seed in range(2000, 2004)]
    assert torch.cat(parts).unique().numel() == 4000
    assert not torch.equal(parts[0], own_part(numbered, 1000, 3000).y)
    with pytest.raises(ValueError, match="4991 graphs have no part 5 of 1000 graphs"):
        own_part(numbered, 1000, 2004)


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
    curve = learning_curve(
        model, lambda ids: model(x[ids]), y, optimizer,
        steps=10, size=12, looks=5, seed=0, falling=True,
    )  # fmt: skip
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
