"""QKNorm beside the layers that models call on each head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import graphnorms as gn
from graphnorms.layers.qk_norm import QKNorm
from tests.norms import normal, randomize


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [
        ("layer", nn.LayerNorm(4)),
        ("layer", nn.LayerNorm(4, bias=False)),
        ("rms", nn.RMSNorm(4, eps=1e-5)),
    ],
)
def test_is_torchs_layer_on_every_head(kind: str, theirs: nn.Module) -> None:
    """As graph transformers have it: queries `(nodes, heads, channels of a head)`."""
    randomize(theirs)
    bias = getattr(theirs, "bias", None) is not None
    mine = QKNorm(12, 3, kind, bias=bias)
    mine.load_state_dict(theirs.state_dict())
    x = normal(5, 12, dtype=torch.float32)
    torch.testing.assert_close(mine(x), theirs(x.view(5, 3, 4)).flatten(1))
    theirs.load_state_dict(mine.state_dict())


def test_l2_gives_every_head_length_1() -> None:
    layer = gn.make_norm("qk:kind=l2,heads=3", 12, eps=1e-12)
    assert not list(layer.parameters())
    y = layer(normal(5, 12, dtype=torch.float32) * 100).view(5, 3, 4)
    torch.testing.assert_close(y.norm(dim=2), torch.ones(5, 3))
    scaled = QKNorm(12, 3, "l2", affine=True)
    assert [name for name, _ in scaled.named_parameters()] == ["weight"]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="heads is 5, expected a divisor of the 12 channels"):
        QKNorm(12, 5)
    with pytest.raises(ValueError, match="unknown kind 'l1'"):
        QKNorm(12, 3, "l1")
    assert repr(QKNorm(12, 3)) == "QKNorm(12, 3, kind=layer, affine=True)"
