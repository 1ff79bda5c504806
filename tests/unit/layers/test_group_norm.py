"""GroupNorm against `torch.nn.GroupNorm`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.layers.group_norm import GroupNorm
from graphnorms.layers.instance_norm import InstanceNorm
from graphnorms.layers.layer_norm import LayerNorm
from tests.norms import normal, randomize

BATCH = torch.tensor([0, 0, 2, 0, 2, 2, 0])


def test_is_torchs() -> None:
    mine, theirs = GroupNorm(6, 3, eps=1e-3), nn.GroupNorm(3, 6, eps=1e-3)
    randomize(theirs)
    mine.load_state_dict(theirs.state_dict())
    x = normal(7, 6, seed=0, dtype=torch.float32)
    torch.testing.assert_close(mine(x), theirs(x))
    nodes = normal(9, 6, seed=1, dtype=torch.float32)
    image = nn.functional.group_norm(nodes.t()[None], 3, mine.weight, mine.bias, 1e-3)[0].t()
    of_graph = GroupNorm(6, 3, eps=1e-3, mode="graph")
    of_graph.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(of_graph(nodes), image)


@pytest.mark.parametrize("mode", ["node", "graph"])
def test_one_group_is_layer_norm(mode: str) -> None:
    x = normal(7, 6, seed=0)
    mine = GroupNorm(6, 1, mode=mode, dtype=torch.float64)
    assert torch.equal(mine(x, BATCH, 3), LayerNorm(6, mode=mode).double()(x, BATCH, 3))


def test_a_group_per_channel() -> None:
    x = normal(7, 6, seed=0)
    mine = GroupNorm(6, 6, mode="graph", dtype=torch.float64)
    torch.testing.assert_close(mine(x, BATCH, 3), InstanceNorm(6)(x, BATCH, 3))
    alone = GroupNorm(6, 6, dtype=torch.float64)
    randomize(alone)
    torch.testing.assert_close(alone(x), alone.bias.expand(7, 6))


@pytest.mark.parametrize("groups", [0, 4, -3])
def test_groups_must_divide_the_channels(groups: int) -> None:
    with pytest.raises(
        ValueError, match=f"num_groups is {groups}, expected a divisor of the 6 channels"
    ):
        GroupNorm(6, groups)


def test_unknown_mode() -> None:
    with pytest.raises(ValueError, match="unknown mode 'grph'; did you mean graph"):
        GroupNorm(6, 2, mode="grph")
    assert repr(GroupNorm(6, 2, mode="graph")) == "GroupNorm(6, 2, affine=True, mode=graph)"
