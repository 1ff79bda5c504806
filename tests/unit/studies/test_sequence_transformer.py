"""The causal language model of the studies."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.studies.sequence_transformer import SequenceTransformer


def test_a_token_does_not_see_those_behind_it() -> None:
    model = SequenceTransformer(7, 7, channels=16, heads=2, seed=0).double()
    tokens = torch.randint(7, (3, 10), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[:, 6:] = (other[:, 6:] + 1) % 7
    changed = (model(tokens) - model(other)).abs().amax((0, 2))
    assert changed[:6].max() < 1e-12
    assert changed[6:].min() > 1e-3


def test_positions_are_the_sinusoids() -> None:
    """The same token twice, without attention between: only the position tells them apart."""
    model = SequenceTransformer(2, 2, channels=6, heads=2, layers=1, seed=0).double()
    seen: list[Tensor] = []
    model.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.zeros(1, 4, dtype=torch.long))
    got = seen[0] - model.embedding.weight[0]
    for position in range(4):
        for k in range(3):
            angle = torch.tensor(position / 10000 ** (2 * k / 6), dtype=torch.float64)
            torch.testing.assert_close(got[position, 2 * k], angle.sin())
            torch.testing.assert_close(got[position, 2 * k + 1], angle.cos())
