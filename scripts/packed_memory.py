"""Measures packed folders: memory of a shuffled pass as the set grows, and its time against memory.

    python scripts/packed_memory.py [MiB …]

For each size a set is streamed to a folder, and read twice by a process of its own: whole, and
mapped. A pass forms minibatches of 128 graphs in random order. Printed are the size of the folder,
the most that the packing process held, and of each reader the resident memory beyond the imports
and the processor time of the second pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch

from graphnorms.data import GraphSet, pack

_NODES, _EDGES, _COLUMNS = 30, 60, 32


def resident(what: str = "VmHWM") -> float:
    """Return resident MiB, now (`VmRSS`) or at most; Linux alone tells."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def graphs(mebibytes: float) -> Iterator[SimpleNamespace]:
    """Make graphs one after another, as much as the folder is to hold."""
    draw = torch.Generator().manual_seed(0)
    size = 4 * _NODES * _COLUMNS + 8 * (_NODES + _EDGES)
    for _ in range(int(mebibytes * 2**20 / size)):
        half = torch.randint(_NODES, (2, _EDGES // 2), generator=draw)
        yield SimpleNamespace(
            x=torch.randn(_NODES, _COLUMNS, generator=draw),
            edge_index=torch.cat((half, half.flip(0)), 1),
            y=torch.randint(2, (1,), generator=draw),
        )


def make(folder: str, mebibytes: float) -> None:
    """Pack a set, and print what it took."""
    before = resident("VmRSS")
    pack(graphs(mebibytes), folder)
    print(json.dumps({"memory": resident() - before}))


def read(folder: str, mapped: bool) -> None:
    """Read a set in random order twice, and print what the second time took."""
    torch.set_num_threads(1)
    before = resident("VmRSS")
    found = GraphSet.open(folder, mapped=mapped)
    seconds = 0.0
    for _ in range(2):
        begin = time.process_time()
        for ids in torch.randperm(len(found)).split(128):
            found.batch(ids)
        seconds = time.process_time() - begin
    print(json.dumps({"memory": resident() - before, "seconds": seconds}))


def run(*arguments: object) -> dict[str, float]:
    """Run this script in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output)
    return found


def main(sizes: list[float]) -> None:
    """Measure each size."""
    print("MiB on disk | packing, MiB | in memory, MiB | s | mapped, MiB | s | ratio of times")
    for size in sizes:
        with tempfile.TemporaryDirectory() as parent:
            folder = f"{parent}/set"
            made = run("make", folder, size)
            disk = sum(path.stat().st_size for path in Path(folder).iterdir()) / 2**20
            held, mapped = run("read", folder, ""), run("read", folder, "mapped")
        cells = (disk, made["memory"], held["memory"], held["seconds"])
        cells += (mapped["memory"], mapped["seconds"], mapped["seconds"] / held["seconds"])
        print(" | ".join(f"{cell:.3g}" for cell in cells), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", folder, size]:
            make(folder, float(size))
        case ["read", folder, mapped]:
            read(folder, bool(mapped))
        case sizes:
            main([float(size) for size in sizes] or [256, 1024, 4096])
