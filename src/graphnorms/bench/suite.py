"""The benchmarks by name, and running one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

from graphnorms.bench import (
    call_times,
    epoch_times,
    force_times,
    hook_times,
    layer_times,
    machine,
    memory_use,
    scaling_times,
    size_times,
    trial_times,
)
from graphnorms.bench.bench_settings import Settings
from graphnorms.bench.beside import Beside
from graphnorms.bench.results import Case, Result
from graphnorms.bench.session import Session
from graphnorms.errors import unknown_name

BENCHMARKS: Final[Mapping[str, Callable[[Session], Iterator[Case]]]] = {
    "layers": layer_times.measure,
    "calls": call_times.measure,
    "force": force_times.measure,
    "memory": memory_use.measure,
    "epoch": epoch_times.measure,
    "scaling": scaling_times.measure,
    "lab": trial_times.measure,
    "hook": hook_times.measure,
    "size": size_times.measure,
}


WITH_BESIDE: Final = ("layers", "calls", "epoch", "lab")
"""Those that time another installation in the same turns."""


def run(
    benchmark: str,
    settings: Settings,
    *,
    command: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> Result:
    """Check the numbers, measure, and return the result.

    Args:
        benchmark: A name of `BENCHMARKS`.
        settings: How to run it.
        command: The command to note in the result.
        say: Receives progress, a line at a time.

    Raises:
        ValueError: There is no such benchmark, or nothing can be timed beside it.
        WrongNumbersError: A layer computes something else than it should.
        GraphnormsError: The benchmark needs PyG, which is not installed.
    """
    if benchmark not in BENCHMARKS:
        raise unknown_name("benchmark", benchmark, BENCHMARKS)
    if settings.beside and benchmark not in WITH_BESIDE:
        raise ValueError(f"beside goes with {', '.join(WITH_BESIDE)}, not with {benchmark}")
    device = machine.describe(settings.device)
    with ExitStack() as stack:
        beside = None
        if settings.beside:
            beside = stack.enter_context(Beside(settings.beside, settings.device))
            device["versions"]["graphnorms beside"] = beside.version
        session = Session(settings, say, beside)
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
