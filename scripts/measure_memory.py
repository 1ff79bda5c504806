"""Measure the memory of a command and of every process that it starts, on Linux.

    python scripts/measure_memory.py -- graphnorms compare MUTAG --workers 2 --out /tmp/mutag

Prints the highest sum of proportional set sizes (of a page that several processes share, each
counts its part), and what each process had of it then: all, and what is its own alone.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from pathlib import Path

MEBI = 1024  # smaps_rollup counts in KiB


def main() -> None:
    """Run the command, look at its processes until it ends, and print the highest sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", nargs="+", help="the command, after --")
    parser.add_argument("--every", type=float, default=0.25, help="seconds between two looks")
    arguments = parser.parse_args()
    highest: dict[int, tuple[str, float, float]] = {}
    with subprocess.Popen(arguments.command) as child:
        while child.poll() is None:
            now = {pid: one for pid in descendants(child.pid) if (one := memory(pid)) is not None}
            highest = max(highest, now, key=total)
            time.sleep(arguments.every)
    print(f"{total(highest):.0f} MiB in {len(highest)} processes")
    for pid, (name, shared, own) in highest.items():
        print(f"{pid:8} {shared:6.0f} MiB, {own:6.0f} of its own  {name}")


def total(processes: dict[int, tuple[str, float, float]]) -> float:
    """Add the proportional set sizes, in MiB."""
    return sum(proportional for _, proportional, _ in processes.values())


def descendants(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for each in found:
        for thread in Path(f"/proc/{each}/task").glob("*/children"):
            try:
                found += map(int, thread.read_text().split())
            except OSError:  # it has ended
                continue
    return found


def memory(pid: int) -> tuple[str, float, float] | None:
    """Return the command of a process, its proportional set size and what is its own, in MiB.

    None if it has ended.
    """
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    sizes = {
        name: int(value.split()[0]) / MEBI for name, _, value in (r.partition(":") for r in rows)
    }
    if "Pss" not in sizes:
        return None
    name = " ".join(word.decode(errors="replace") for word in words)[:80]
    return name, sizes["Pss"], sizes["Private_Clean"] + sizes["Private_Dirty"]


if __name__ == "__main__":
    main()
