"""The examples of distributed training in two processes, against themselves in one."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ranks.launch import ROOT, environment, launch

Run = Callable[[str], object]
ENDED = str(ROOT / "tests/ranks/ended.py")
ARGUMENTS = ("--float64", "--epochs", "3", "--save")


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run an example in this process, and return the losses."""

    def run(path: str) -> object:
        saved = tmp_path / "one.json"
        monkeypatch.setattr(sys, "argv", [path, *ARGUMENTS, str(saved)])
        monkeypatch.delenv("RANK", raising=False)
        runpy.run_path(path, run_name="__main__")
        return json.loads(saved.read_text())

    return run


def test_torchrun_with_a_packed_set_sharded_by_rank(run_here: Run, tmp_path: Path) -> None:
    path, saved = str(ROOT / "examples/distributed.py"), tmp_path / "two.json"
    local = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node=2",
            *local,
            ENDED,
            path,
            *ARGUMENTS,
            str(saved),
        ],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert "6 of 6 norms" in done.stdout  # the table of `convert_sync`
    one = run_here(path)
    assert json.loads(saved.read_text()) == pytest.approx(one, rel=1e-9)
    assert one[-1] < 0.7 * one[0]


def test_a_pyg_model_as_it_is(run_here: Run, tmp_path: Path) -> None:
    path, saved = str(ROOT / "examples/distributed_pyg.py"), tmp_path / "two.json"
    launch(ENDED, path, *ARGUMENTS, str(saved), ranks=2)
    one, two = run_here(path), json.loads(saved.read_text())
    for norm in ("batch", "graph"):
        assert two[norm] == pytest.approx(one[norm], rel=1e-9)
        assert one[norm][-1] < 0.7 * one[norm][0]
