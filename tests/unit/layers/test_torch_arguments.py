"""`bias=` and `elementwise_affine=`, as torch's layers take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import graphnorms as gn
from graphnorms.layers.factory import settings_of
from graphnorms.layers.hetero_layer_norm import HeteroLayerNorm
from tests.norms import normal, randomize

TYPES = torch.arange(12) % 2
EDGES = gn.Adjacency.from_edge_index(torch.tensor([[0, 1, 2], [1, 2, 0]]), 12)
LAYERS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "BatchNorm": (lambda **k: gn.BatchNorm(6, **k), {}),
    "InstanceNorm": (lambda **k: gn.InstanceNorm(6, affine=True, **k), {}),
    "LayerNorm": (lambda **k: gn.LayerNorm(6, **k), {}),
    "GroupNorm": (lambda **k: gn.GroupNorm(6, 2, **k), {}),
    "GraphNorm": (lambda **k: gn.GraphNorm(6, **k), {}),
    "CustomNorm": (lambda **k: gn.CustomNorm(6, **k), {}),
    "AdjaNorm": (lambda **k: gn.AdjaNorm(6, **k), {"adjacency": EDGES}),
    "HeteroBatchNorm": (lambda **k: gn.HeteroBatchNorm(6, 2, **k), {"type_vec": TYPES}),
    "HeteroLayerNorm": (lambda **k: HeteroLayerNorm(6, 2, **k), {"type_vec": TYPES}),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_no_bias_is_a_bias_of_zero(name: str, training: bool) -> None:
    make, given = LAYERS[name]
    layer, full = make(bias=False).double(), make().double()
    randomize(layer)
    names = [key for key in full.state_dict() if not key.endswith("bias")]
    assert list(layer.state_dict()) == names
    full.load_state_dict(layer.state_dict(), strict=False)  # its bias is 0
    x = normal(12, 6)
    for one in (layer, full):
        one(x + 1, **given)
        one.train(training)
    torch.testing.assert_close(layer(x, **given), full(x, **given))
    layer.reset_parameters()  # type: ignore[operator]
    holder = layer.module if name == "BatchNorm" else layer
    assert holder.bias is None
    assert bool((holder.weight == 1).all())


def test_graph_norm_without_bias_has_positions() -> None:
    layer = gn.GraphNorm(6, bias=False)
    x = normal(5, 2, 6).float()
    expected = torch.stack([layer(x[:, at]) for at in range(2)], 1)
    torch.testing.assert_close(layer(x), expected)


PAIRS: dict[str, tuple[nn.Module, nn.Module, Callable[[Tensor], Tensor]]] = {
    "LayerNorm": (
        nn.LayerNorm(6, bias=False),
        gn.LayerNorm(6, mode="node", bias=False),
        lambda x: x,
    ),
    "LayerNorm, none": (
        nn.LayerNorm(6, elementwise_affine=False),
        gn.LayerNorm(6, mode="node", elementwise_affine=False),
        lambda x: x,
    ),
    "RMSNorm, none": (
        nn.RMSNorm(6, 1e-5, elementwise_affine=False),
        gn.RMSNorm(6, elementwise_affine=False),
        lambda x: x,
    ),
}
if "bias" in inspect.signature(nn.BatchNorm1d).parameters:  # from torch 2.12 or 2.13 on
    PAIRS |= {
        "BatchNorm1d": (nn.BatchNorm1d(6, bias=False), gn.BatchNorm(6, bias=False), lambda x: x),
        "GroupNorm": (nn.GroupNorm(2, 6, bias=False), gn.GroupNorm(6, 2, bias=False), lambda x: x),
        "InstanceNorm1d": (
            nn.InstanceNorm1d(6, affine=True, track_running_stats=True, bias=False),
            gn.InstanceNorm(6, affine=True, track_running_stats=True, bias=False),
            lambda x: x.t().unsqueeze(0),
        ),
    }


@pytest.mark.parametrize("name", PAIRS)
def test_checkpoints_of_torch_load(name: str) -> None:
    theirs, ours, shape = PAIRS[name]
    theirs, ours = theirs.double(), ours.double()
    randomize(theirs)
    x = normal(12, 6) + 2
    theirs(shape(x))
    prefix = "module." if isinstance(ours, gn.BatchNorm) else ""
    ours.load_state_dict({prefix + key: value for key, value in theirs.state_dict().items()})
    for training in (True, False):
        y = theirs.train(training)(shape(x))
        y = y if y.dim() == 2 else y[0].t()
        torch.testing.assert_close(ours.train(training)(x), y)
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        if not key.endswith("num_batches_tracked"):  # which torch's InstanceNorm never moves
            torch.testing.assert_close(a, b)


def test_two_names_that_contradict() -> None:
    for layer in (gn.LayerNorm, gn.RMSNorm):
        assert layer(4, elementwise_affine=False).affine is False
        assert layer(4, elementwise_affine=True).affine is True
        assert layer(4, affine=False).weight is None
        with pytest.raises(ValueError, match="elementwise_affine is True"):
            layer(4, affine=False, elementwise_affine=True)


def test_text_sets_the_bias() -> None:
    layer = gn.make_norm("batch:bias=false", 4)
    assert isinstance(layer, gn.BatchNorm)
    assert layer.module.bias is None
    assert settings_of(gn.CATALOG["layer"])["bias"] is True
    assert "elementwise_affine" not in settings_of(gn.CATALOG["layer"])
    with pytest.raises(ValueError, match=r"unknown argument of rms 'bias'"):
        gn.make_norm("rms:bias=false", 4)
