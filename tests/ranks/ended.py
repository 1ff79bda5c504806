"""Run a script, and raise if it leaves threads of a process group to the exit of Python.

There they abort the process or wait forever, but only now and then.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def check() -> None:
    """Raise if a thread of gloo is left. Where threads have no names it cannot be told."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    left = [name for name in names if "gloo" in name]
    assert not left, f"threads of a process group are left: {', '.join(left)}"


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
    check()
