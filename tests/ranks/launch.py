"""Starting the ranks of a test, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from torch.distributed import TCPStore

ROOT = Path(__file__).parents[2]


def environment(**more: str) -> dict[str, str]:
    """That of this process, for one that finds the same modules and stays on this machine."""
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path)])
    return {
        **os.environ,
        "PYTHONPATH": paths,
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        **more,
    }


def launch(*command: str, ranks: int) -> None:
    """Run Python once for each rank, as `torchrun` does, and raise what a failed one wrote.

    As with `torchrun` the ranks meet at a store of this process, on a port that it holds: one that
    was only found free could be another's before a rank has loaded torch.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    running = []
    for rank in range(ranks):
        place = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "PYTHONFAULTHANDLER": "1",
        }
        running.append(
            subprocess.Popen(
                [sys.executable, *command],
                env=environment(**place),
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = []
    for process in running:
        try:
            said.append(process.communicate(timeout=240)[0])
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # it then writes where it is
            said.append(process.communicate()[0])
    for rank, (process, text) in enumerate(zip(running, said, strict=True)):
        assert process.returncode == 0, f"rank {rank} of {ranks}:\n{text[-6000:]}"
