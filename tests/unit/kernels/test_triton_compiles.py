"""The kernels compile for a GPU where there is none: with triton's own ptxas, for sm_90."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def compiled(*arguments: str) -> list[dict[str, Any]]:
    # The interpreter of the other tests compiles nothing.
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    run = subprocess.run(
        [sys.executable, "-m", "tests.compile_for_cuda", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(run.stdout)
    return found


def test_the_fused_kernel_of_a_graph_norm() -> None:
    (kernel,) = compiled("quick")
    assert kernel["name"] == "segment_forward"
    assert kernel["bytes"] > 0
    assert not kernel["atomic"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_kernel() -> None:
    kernels = compiled()
    assert {kernel["name"] for kernel in kernels} == {
        "segment_forward",
        "segment_backward",
        "chunk_statistics",
        "merge_statistics",
        "chunk_forward",
        "chunk_gradients",
        "merge_gradients",
        "chunk_backward",
        "sum_shares",
        "row_forward",
        "row_backward",
        "sum_neighbours",
        "sum_messages",
        "weight_gradients",
        "message_gradients",
        "bounded_forward",
        "bounded_backward",
        "segment_double_backward",
        "chunk_second_sums",
        "merge_second_sums",
        "chunk_double_backward",
        "row_double_backward",
        "ragged_forward",
        "ragged_backward",
        "ragged_double_backward",
        "bounded_double_backward",
    }
    assert not any(kernel["atomic"] for kernel in kernels)
