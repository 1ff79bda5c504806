"""Where trials run: in processes of this machine, on a dask cluster, or in this process."""

from __future__ import annotations

from typing import Any

from graphnorms.errors import unknown_name
from graphnorms.lab.engines.attempt import OUT_OF_MEMORY, WORKER_DIED, Trial, is_settled
from graphnorms.lab.engines.engine import Engine, OnProgress, Then, default_workers
from graphnorms.lab.engines.local import ThisProcess, WorkerProcesses

ENGINES = ("local", "dask")

__all__ = [
    "ENGINES",
    "OUT_OF_MEMORY",
    "WORKER_DIED",
    "Engine",
    "OnProgress",
    "Then",
    "ThisProcess",
    "Trial",
    "WorkerProcesses",
    "check_engine",
    "default_workers",
    "is_settled",
    "make_engine",
]


def make_engine(
    name: str,
    trial: Trial,
    dataset: Any,
    *,
    workers: int,
    scheduler: str | None = None,
    timeout: float | None = None,
    fresh: bool = False,
) -> Engine:
    """Return an engine; it starts nothing before its first trial.

    Args:
        name: `"local"`: processes of this machine. `"dask"`: the workers of a dask scheduler.
        trial: The trial function.
        dataset: Its second argument; each process gets it once.
        workers: Local processes; 0 runs trials in this one, which a debugger can follow. If it
            is killed, for lack of memory say, the run ends.
        scheduler: Address of the dask scheduler, as `tcp://host:8786`.
        timeout: Seconds that a trial may take; one that takes longer is ended and has failed.
            Trials in this process are checked after each epoch. None: no limit.
        fresh: Whether every trial has a new process, as code needs that may leave something
            behind. Trials in this process share it.

    Raises:
        ValueError: There is no such engine, or the scheduler is missing or not wanted.
        ImportError: dask.distributed is not installed.
    """
    check_engine(name, scheduler)
    if scheduler is not None:
        from graphnorms.lab.engines.dask import DaskWorkers

        return DaskWorkers(trial, dataset, scheduler, timeout=timeout, fresh=fresh)
    if not workers:
        return ThisProcess(trial, dataset, timeout)
    return WorkerProcesses(trial, dataset, workers, timeout=timeout, fresh=fresh)


def check_engine(name: str, scheduler: str | None) -> None:
    """Check what an engine is to be made of.

    Raises:
        ValueError: There is no such engine, or the scheduler is missing or not wanted.
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if (name == "dask") != (scheduler is not None):
        raise ValueError(
            "the dask engine needs the address of a scheduler, e.g. tcp://localhost:8786"
            if scheduler is None
            else f"a scheduler ({scheduler}) is for the dask engine; the engine is {name}"
        )
