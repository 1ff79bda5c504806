"""Which files of the package one tiny comparison enters, from the command to its report.

    python scripts/trace_trial.py

Runs `graphnorms compare MUTAG` with two norms, two folds and two epochs in this process, in a
temporary folder, and lists the files in which a function was called, by package, in the order in
which they were first entered; then the calls from a package to one that stands before it on the
way (`tool.importlinter` in pyproject.toml).
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "graphnorms"
COMMAND = [
    "compare",
    "MUTAG",
    "--norms",
    "none,graph",
    "--folds",
    "2",
    "--epochs",
    "2",
    "--workers",
    "1",
]


def layers() -> dict[str, int]:
    """Return the place of every package on the way, the command line first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    order = config["tool"]["importlinter"]["contracts"][0]["layers"]
    return {name.strip(): place for place, names in enumerate(order) for name in names.split("|")}


class Trace:
    """Collects the files that are entered, and who enters which."""

    def __init__(self) -> None:
        self.entered: dict[str, None] = {}
        self.calls: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """Note an event of the interpreter."""
        if event != "call" or not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            return  # a module or the body of a class
        file = self._file(frame)
        if not file or (file not in self.entered and _imports(frame)):
            return
        self.entered.setdefault(file)
        caller = frame.f_back
        while caller is not None and not self._file(caller):
            caller = caller.f_back
        if caller is not None:
            self.calls.add((self._file(caller), file))

    def _file(self, frame: FrameType) -> str:
        path = frame.f_code.co_filename
        return path.removeprefix(f"{PACKAGE}/") if path.startswith(f"{PACKAGE}/") else ""


def _imports(frame: FrameType | None) -> bool:
    """Whether a call is made while a module is imported."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def traced() -> Trace:
    """Run the comparison, its trials in this process."""
    sys.path.insert(0, str(ROOT / "src"))
    from graphnorms import cli
    from graphnorms.lab import engines

    make = engines.make_engine
    engines.make_engine = lambda *given, **named: make(*given, **{**named, "workers": 0})
    trace = Trace()
    sys.argv = ["graphnorms", *COMMAND]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.setprofile(trace)
        try:
            cli.main()
        finally:
            sys.setprofile(None)
            os.chdir(ROOT)
    return trace


def main() -> None:
    """Print what was found."""
    trace, place = traced(), layers()
    packages: dict[str, list[str]] = defaultdict(list)
    for file in trace.entered:
        packages[file.split("/")[0].removesuffix(".py")].append(file)
    print(f"\n{len(trace.entered)} files are entered:")
    for package, files in sorted(packages.items(), key=lambda item: place.get(item[0], 99)):
        print(f"  {package}: {len(files)}\n    {' '.join(files)}")

    def back(caller: str, called: str) -> bool:
        one, other = (place.get(f.split("/")[0].removesuffix(".py"), 99) for f in (caller, called))
        return other < one

    steps = sorted(call for call in trace.calls if back(*call))
    print(f"{len(steps)} pairs of files in which a later package calls an earlier one:")
    for caller, called in steps:
        print(f"  {caller} -> {called}")


if __name__ == "__main__":
    main()
