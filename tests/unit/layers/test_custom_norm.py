"""CustomNorm: every point of the equation by its name, and the layers that are one of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from graphnorms.errors import BackendRefusedError
from graphnorms.layers.batch_norm import BatchNorm
from graphnorms.layers.custom_norm import CustomNorm
from graphnorms.layers.graph_norm import GraphNorm
from graphnorms.layers.group_norm import GroupNorm
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.layer_norm import LayerNorm
from graphnorms.layers.rms_norm import RMSNorm
from tests.conformance.oracle import POINTS, point, rows_of
from tests.norms import close, normal, randomize


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shift", ["fixed", "learned"])
@pytest.mark.parametrize(("center", "scale"), POINTS)
def test_every_point(center: str, scale: str, shift: str, dtype: torch.dtype) -> None:
    if center == "none" and shift == "learned":
        with pytest.raises(ValueError, match="choose a center"):
            CustomNorm(6, center, scale, shift)
        return
    batch, size = (torch.arange(16) * 7 % 5).int() * 2 + 1, 11
    over_channels = {"node", "graph-channels", "batch-channels"} & {center, scale}
    groups = 2 if over_channels else 1
    wide = torch.promote_types(dtype, torch.float32)
    layer = CustomNorm(6, center, scale, shift, groups, dtype=wide)
    randomize(layer)
    x = (normal(16, 6, seed=0) + 1).to(dtype).requires_grad_()
    exact_x = x.detach().double().requires_grad_()
    p = {k: v.detach().double().requires_grad_() for k, v in layer.named_parameters()}
    exact = point(exact_x, rows_of(batch, size, 16), p, center, scale, groups)
    # A graph of one node is divided by sqrt(eps) alone: its gradient dwarfs all others.
    alone = torch.bincount(batch.long())[batch.long()] == 1
    grad_y = torch.where(alone[:, None], 0.0, normal(16, 6, seed=9)).to(dtype)
    y = layer(x, batch, size)
    assert y.dtype == dtype
    allowed = {torch.float64: 1e-11, torch.float32: 2e-5, torch.bfloat16: 2e-2}[dtype]
    close(y, exact, allowed, "y")
    found = torch.autograd.grad(y, [x, *layer.parameters()], grad_y)
    wanted = torch.autograd.grad(exact, [exact_x, *p.values()], grad_y.double())
    for name, got, want in zip(["x", *p], found, wanted, strict=True):
        close(got, want, 2 * allowed, f"gradient of {name}")


PUBLISHED: dict[str, tuple[nn.Module, nn.Module]] = {
    "GraphNorm": (GraphNorm(6), CustomNorm(6, shift="learned")),
    "InstanceNorm": (InstanceNorm(6, affine=True), CustomNorm(6)),
    "LayerNorm": (LayerNorm(6, mode="node"), CustomNorm(6, "node", "node")),
    "LayerNorm of graphs": (LayerNorm(6), CustomNorm(6, "graph-channels", "graph-channels")),
    "RMSNorm": (RMSNorm(6), CustomNorm(6, "none", "node")),
    "GroupNorm": (GroupNorm(6, 3), CustomNorm(6, "node", "node", groups=3)),
    "BatchNorm": (BatchNorm(6, track_running_stats=False), CustomNorm(6, "batch", "batch")),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_points(name: str) -> None:
    theirs, mine = PUBLISHED[name]
    randomize(theirs)
    state = {key.removeprefix("module."): value for key, value in theirs.state_dict().items()}
    mine.load_state_dict(state, strict=name != "RMSNorm")
    batch, size = torch.arange(16) * 7 % 5, 5
    x = normal(16, 6, seed=0, dtype=torch.float32)
    assert torch.equal(mine(x, batch, size), theirs(x, batch, size))


def test_a_named_backend_does_not_fall_back() -> None:
    layer = CustomNorm(6, "graph", "node", backend="cpu")
    with pytest.raises(BackendRefusedError, match="one statistic within rows and one over nodes"):
        layer(torch.zeros(4, 6))
    assert CustomNorm(6, "graph", "batch", backend="cpu")(torch.zeros(4, 6)).shape == (4, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"center": "grph"}, "unknown center 'grph'; did you mean graph"),
        ({"scale": "rows"}, "unknown scale 'rows'"),
        ({"shift": "learn"}, "unknown shift 'learn'; did you mean learned"),
        ({"center": "none", "scale": "none"}, "use Identity"),
        ({"groups": 2}, "groups is 2, but neither"),
        ({"center": "node", "groups": 4}, "groups is 4, expected a divisor of the 6 channels"),
        ({"eps": 0.0}, r"eps is 0\.0, expected a positive number"),
    ],
)
def test_contradictions(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CustomNorm(6, **arguments)


def test_repr_and_what_is_learned() -> None:
    layer = CustomNorm(6, "graph", "node", "learned", 2, affine=False)
    assert repr(layer) == (
        "CustomNorm(6, center=graph, scale=node, shift=learned, groups=2, affine=False)"
    )
    assert list(layer.state_dict()) == ["mean_scale"]
