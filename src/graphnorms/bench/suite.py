"""The benchmarks by name, and running one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from graphnorms.bench import calls, epoch, hook, lab, layers, machine, memory, scaling
from graphnorms.bench.results import Case, Result
from graphnorms.bench.session import Session
from graphnorms.bench.settings import Settings
from graphnorms.errors import unknown_name

BENCHMARKS: Final[Mapping[str, Callable[[Session], Iterator[Case]]]] = {
    "layers": layers.measure,
    "calls": calls.measure,
    "memory": memory.measure,
    "epoch": epoch.measure,
    "scaling": scaling.measure,
    "lab": lab.measure,
    "hook": hook.measure,
}


def run(
    benchmark: str,
    settings: Settings,
    *,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Result:
    """Check the numbers, measure, and return what was found.

    Args:
        benchmark: A name of `BENCHMARKS`.
        settings: How to run it.
        command: What to note as the way to run it again.
        say: Told of progress, a line at a time.

    Raises:
        ValueError: There is no such benchmark.
        WrongNumbersError: A layer computes something else than it should.
        GraphnormsError: The benchmark needs PyG, which is not installed.
    """
    if benchmark not in BENCHMARKS:
        raise unknown_name("benchmark", benchmark, BENCHMARKS)
    session = Session(settings, say)
    device = machine.describe(settings.device)
    cases = tuple(BENCHMARKS[benchmark](session))
    return Result(
        benchmark=benchmark,
        command=command,
        taken=datetime.now(UTC).isoformat(timespec="seconds"),
        machine={**device, "load_after": machine.load()},
        settings=settings.to_dict(),
        cases=cases,
        checks=tuple(check.to_dict() for check in session.checks),
        notes=tuple(session.notes),
    )
