"""Models whose parameters FSDP2 shards over two processes, against one process without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from graphnorms.testing import tolerance
from tests.ranks import fsdp
from tests.ranks.launch import launch

Losses = dict[str, list[float]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks have left; all models are trained in one launch."""
    folder = tmp_path_factory.mktemp("fsdp")
    launch("-m", "tests.ranks.fsdp", str(folder), ranks=2)
    return folder


@pytest.fixture(scope="module")
def sharded(folder: Path) -> Losses:
    found: Losses = json.loads((folder / "losses.json").read_text())
    return found


def off(got: list[float], expected: list[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(got, expected, strict=True))


NODES = 24 * 18
# Every step passes on the rounding errors of those before it.
ALLOWED = fsdp.STEPS * tolerance(torch.float64, NODES)


@pytest.mark.parametrize("norm", fsdp.NORMS)
def test_two_ranks_train_as_one_process(norm: str, sharded: Losses) -> None:
    alone = fsdp.losses(norm)
    assert alone[-1] != alone[0]
    for unit in fsdp.UNITS:
        assert off(sharded[f"{norm} {unit}"], alone) < ALLOWED, unit


@pytest.mark.parametrize("norm", fsdp.HALF)
def test_in_mixed_precision(norm: str, sharded: Losses) -> None:
    # Each of the two ranks rounds its gradients before they are added up.
    allowed = 2 * fsdp.STEPS * tolerance(torch.bfloat16, NODES)
    assert off(sharded[f"{norm} half"], fsdp.losses(norm, half=True)) < allowed


def test_a_shard_is_refused_by_name(folder: Path) -> None:
    for rank in range(2):
        found = json.loads((folder / f"refusals{rank}.json").read_text())
        for name, text in found.items():
            assert text.startswith(f"ValueError: {name.split()[0]} is (4,)"), text
            assert "a DTensor without memory" in text
