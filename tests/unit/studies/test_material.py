"""What several studies measure on."""

from __future__ import annotations

import pytest
import torch

from graphnorms.models import GNN, MLP, preset
from graphnorms.studies.material import digits, graphs, minibatches, scale_weights


def test_digits():
    x, y = digits()
    assert x.shape == (1797, 64)
    assert (x.min(), x.max()) == (0, 1)
    assert y.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_graphs_from_a_folder(tmp_path):
    (tmp_path / "TOY").mkdir()
    (tmp_path / "TOY" / "TOY.txt").write_text("2\n2 0\n0 1 1\n1 1 0\n1 1\n0 0\n")
    assert len(graphs("TOY", tmp_path)) == 2


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
