"""Where trials run: in processes of this machine, on a dask cluster, or in this process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphnorms.errors import unknown_name
from graphnorms.lab.engines.attempt import OUT_OF_MEMORY, WORKER_DIED, Trial, is_settled
from graphnorms.lab.engines.engine import Engine, OnProgress, Then, default_workers
from graphnorms.lab.engines.local import ThisProcess, WorkerProcesses

ENGINES = ("local", "dask", "slurm")

JOBS_AT_A_TIME = 16
"""Slurm jobs when no number is given."""

__all__ = [
    "ENGINES",
    "JOBS_AT_A_TIME",
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
    asked: Mapping[str, Any] | str | None = None,
    folder: Path | None = None,
    timeout: float | None = None,
    fresh: bool = False,
) -> Engine:
    """Return an engine; it starts nothing before its first trial.

    Args:
        name: `"local"`: processes of this machine. `"dask"`: the workers of a dask scheduler.
            `"slurm"`: jobs of Slurm.
        trial: The trial function.
        dataset: Its second argument; each process gets it once.
        workers: Local processes, or Slurm jobs at a time; 0 runs trials in this one, which a
            debugger can follow. If it is killed, for lack of memory say, the run ends.
        scheduler: Address of the dask scheduler, as `tcp://host:8786`.
        asked: What Slurm is asked for in every job, see `graphnorms.lab.engines.slurm`.
        folder: The run's folder, where Slurm jobs find their data.
        timeout: Seconds that a trial may take; one that takes longer is ended and has failed.
            Trials in this process are checked after each epoch. None: no limit.
        fresh: Whether every trial has a new process, as code needs that may leave something
            behind. Trials in this process share it.

    Raises:
        ValueError: There is no such engine, or the scheduler is missing or not wanted.
        ImportError: The package of the engine is not installed.
    """
    check_engine(name, scheduler, asked)
    if scheduler is not None:
        from graphnorms.lab.engines.dask import DaskWorkers

        return DaskWorkers(trial, dataset, scheduler, timeout=timeout, fresh=fresh)
    if name == "slurm":
        from graphnorms.lab.engines.slurm import SlurmJobs

        place = Path(".") if folder is None else folder
        options = {"timeout": timeout, "fresh": fresh}
        return SlurmJobs(trial, dataset, workers, place, options_of(asked), **options)
    if not workers:
        return ThisProcess(trial, dataset, timeout)
    return WorkerProcesses(trial, dataset, workers, timeout=timeout, fresh=fresh)


def check_engine(
    name: str | None, scheduler: str | None, asked: Mapping[str, Any] | str | None = None
) -> None:
    """Check what an engine is to be made of.

    Raises:
        ValueError: There is no such engine, or the scheduler or the options of the engine are
            missing or not wanted.
        ImportError: submitit, which the Slurm engine needs, is not installed.
    """
    name = "local" if name is None else name
    if name not in ENGINES:
        raise unknown_name("engine", name, ENGINES)
    if (name == "dask") != (scheduler is not None):
        raise ValueError(
            "the dask engine needs the address of a scheduler, e.g. tcp://localhost:8786"
            if scheduler is None
            else f"a scheduler ({scheduler}) is for the dask engine; the engine is {name}"
        )
    if name == "slurm":
        from graphnorms.lab.engines.slurm import check_jobs

        check_jobs(options_of(asked))
    elif asked:
        raise ValueError(f"engine_options are for the slurm engine; the engine is {name}")


def options_of(asked: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Read options of an engine, given as a mapping or as `name=value,name=value`.

    Raises:
        ValueError: A part has no name or no value.
    """
    if not isinstance(asked, str):
        return dict(asked or {})
    found = {}
    for part in filter(None, map(str.strip, asked.split(","))):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f"engine_options has {part!r}, expected name=value")
        found[name.strip()] = value.strip()
    return found
