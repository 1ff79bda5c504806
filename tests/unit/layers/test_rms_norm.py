"""RMSNorm against `torch.nn.RMSNorm`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from graphnorms.layers.rms_norm import RMSNorm
from tests.norms import normal, randomize


def test_is_torchs() -> None:
    mine, theirs = RMSNorm(5, eps=1e-3), nn.RMSNorm(5, eps=1e-3)
    randomize(theirs)
    mine.load_state_dict(theirs.state_dict())
    x = normal(7, 5, seed=0, dtype=torch.float32)
    torch.testing.assert_close(mine(x), theirs(x))
    theirs.load_state_dict(mine.state_dict())


def test_a_positive_multiple_changes_nothing_and_zeros_stay() -> None:
    layer = RMSNorm(5, dtype=torch.float64)
    x = normal(7, 5, seed=0)
    torch.testing.assert_close(layer(1e3 * x), layer(1e5 * x), rtol=1e-9, atol=0)
    assert not layer(torch.zeros(3, 5)).any()


def test_without_a_weight() -> None:
    layer = RMSNorm(5, affine=False)
    assert not list(layer.parameters())
    assert repr(layer) == "RMSNorm(5, eps=1e-05, affine=False)"
    x = normal(7, 5, seed=0, dtype=torch.float32)
    torch.testing.assert_close(layer(x), nn.functional.rms_norm(x, (5,), eps=1e-5))


def test_eps_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"eps is 0\.0, expected a positive number"):
        RMSNorm(4, eps=0.0)
