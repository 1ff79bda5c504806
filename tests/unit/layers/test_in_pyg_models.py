"""The layers where PyG's own models call a normalization."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from graphnorms.layers.diff_group_norm import DiffGroupNorm
from graphnorms.layers.graph_size_norm import GraphSizeNorm
from graphnorms.layers.mean_subtraction_norm import MeanSubtractionNorm
from graphnorms.layers.message_norm import MessageNorm
from graphnorms.layers.pair_norm import PairNorm
from tests.norms import import_pyg, normal

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "PairNorm": PairNorm,
    "GraphSizeNorm": GraphSizeNorm,
    "MeanSubtractionNorm": MeanSubtractionNorm,
    "DiffGroupNorm": lambda: DiffGroupNorm(8, 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_as_the_norm_of_a_model(name: str) -> None:
    """`BasicGNN` passes graphs by position, `MLP` by name, `DeepGCNLayer` none at all."""
    pyg = import_pyg()
    x, edges = normal(30, 8).float(), torch.randint(30, (2, 90))
    batch = torch.arange(30) // 10
    model = pyg.GCN(8, 8, 2, norm=LAYERS[name]())
    assert model(x, edges, batch=batch, batch_size=3).shape == (30, 8)
    model = pyg.MLP([8, 8, 8], norm=LAYERS[name]())
    assert model(x, batch=batch, batch_size=3).shape == (30, 8)
    model = pyg.DeepGCNLayer(pyg.GCNConv(8, 8), LAYERS[name](), nn.ReLU())
    assert model(x, edges).shape == (30, 8)


def test_as_the_message_norm_of_gen() -> None:
    pyg = import_pyg()
    convolution = pyg.GENConv(8, 8, msg_norm=True, learn_msg_scale=True)
    x, edges = normal(30, 8).float(), torch.randint(30, (2, 90))
    convolution.eval()
    expected = convolution(x, edges)
    ours = MessageNorm(True)
    ours.load_state_dict(convolution.msg_norm.state_dict())
    convolution.msg_norm = ours
    torch.testing.assert_close(convolution(x, edges), expected)
