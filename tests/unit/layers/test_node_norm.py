"""What NodeNorm keeps and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.layers.node_norm import NodeNorm
from tests.norms import normal


def test_the_spread_becomes_a_root_of_itself_and_the_direction_stays() -> None:
    x = normal(7, 6, seed=0) * torch.logspace(0, 3, 7)[:, None] + 5
    for p in (1.0, 2.0, 4.0):
        y = NodeNorm(6, p, eps=1e-12)(x)
        torch.testing.assert_close(y.std(1, False), x.std(1, False) ** (1 - 1 / p))
        torch.testing.assert_close(nn.functional.normalize(y), nn.functional.normalize(x))


def test_equal_channels() -> None:
    y = NodeNorm(1, p=2.0)(torch.full((2, 1), 3.0, dtype=torch.float64))
    torch.testing.assert_close(y, torch.full((2, 1), 3 * 1e-5**-0.25, dtype=torch.float64))


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"p is 0\.5, expected a root of 1 or more"):
        NodeNorm(4, p=0.5)
    with pytest.raises(ValueError, match=r"eps is 0\.0"):
        NodeNorm(4, eps=0.0)
    assert repr(NodeNorm(4)) == "NodeNorm(4, p=2.0)"
