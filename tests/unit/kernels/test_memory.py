"""Tensors whose numbers are not where their address points to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import graphnorms as gn
from graphnorms.kernels.cpu import extension
from tests.conftest import BACKENDS
from tests.unit.kernels import freed

needs_kernels = pytest.mark.skipif(
    extension.unavailable() is not None, reason="torch reads the tensors of the reference"
)


def run(what: str) -> list[list[str]]:
    """What the calls gave: a kernel that took a wrong address would end this process."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", freed.__name__, what],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{lines[-1] if lines else ''}\n{done.stderr[-3000:]}"
    return lines


@pytest.mark.parametrize(
    "kernels",
    [
        pytest.param("cpu", marks=needs_kernels),
        pytest.param(
            "triton",
            marks=pytest.mark.skipif("triton" not in BACKENDS, reason="no interpreter here"),
        ),
    ],
)
def test_a_tensor_without_memory_is_named(kernels: str) -> None:
    lines = run(kernels)
    wrong = [
        line
        for line in lines
        if not (line[3].startswith(f"ValueError: {line[1]} is") and "without memory" in line[3])
    ]
    assert not wrong
    assert len(lines) > 150


@needs_kernels
def test_signs_and_zeros_that_torch_has_only_noted() -> None:
    lines = run("noted")
    assert len(lines) == 8
    assert all(line[3] == "same" for line in lines), lines


@needs_kernels
def test_no_rows_need_no_memory() -> None:
    x = torch.zeros(0, 4)
    x.untyped_storage().resize_(0)
    ids = torch.zeros(0, dtype=torch.long)
    assert gn.GraphNorm(4)(x, ids, 0).shape == (0, 4)
    assert gn.aggregate(x, gn.Adjacency.from_edge_index(ids.new_zeros(2, 0), 0)).shape == (0, 4)
