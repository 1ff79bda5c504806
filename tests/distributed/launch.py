"""Starting the ranks of a test, each a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment() -> dict[str, str]:
    """That of this process, for one that finds the same modules and stays on this machine."""
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def launch(module: str, ranks: int, folder: Path, *arguments: str) -> None:
    """Run a module once for each rank, and raise with what one wrote if it failed."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(rank), str(ranks), str(folder), *arguments],
            env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(ranks)
    ]  # fmt: skip
    said = []
    try:
        said = [process.communicate(timeout=240)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    for rank, (process, text) in enumerate(zip(running, said, strict=True)):
        assert process.returncode == 0, f"rank {rank} of {ranks}:\n{text[-6000:]}"
