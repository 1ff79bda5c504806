"""Trials as jobs of Slurm, through submitit.

Each trial is one job. Trial function and data are pickled once, into the folder of the run, which
every node must see under the same path; a job gets the path and its config. It runs the trial in a
process of its own, see `process`, and so with the time limit and the reports of every engine, and
writes the number of finished epochs into a small file.
"""

from __future__ import annotations

import math
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import GraphnormsError, one_line, unknown_name
from graphnorms.files import replacing
from graphnorms.interrupts import held_back
from graphnorms.lab.engines.attempt import DiedError, StartError, Trial
from graphnorms.lab.engines.engine import TICK, Engine
from graphnorms.lab.engines.packing import pack
from graphnorms.lab.engines.process import Process

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

JOBS: Final = "jobs"
"""The folder with the data and the logs of jobs, in that of the run."""

_EPOCHS: Final = "epochs"
_POLL: Final = 0.5  # seconds between two looks at a job
_MINUTES: Final = 60  # that Slurm gives a job when neither `time` nor `timeout` says it
_LONGEST_END: Final = 8.0  # seconds for a job on this machine to end when it is cancelled
_START: Final = 5  # minutes for a job to start, beside the time limit of its trial
_OWN: Final = {  # parameters of submitit that the engine sets, or that it has no use for
    *("array_parallelism", "dependency", "job_name", "map_count", "nodes", "ntasks_per_node"),
    *("num_gpus", "signal_delay_s", "stderr_to_stdout"),
}


class SlurmJobs(Engine):
    """Run trials as jobs of Slurm, `workers` at a time.

    A job that ends without a record (its node failed, it was cancelled or preempted, it was over
    the time or memory that Slurm gave it) counts as a process that died: the trial gets a second
    job. Ctrl-C cancels the jobs; after kill -9 of this process those that run end by themselves,
    and their outcome is lost.

    Args:
        trial, dataset, options: See `Engine`.
        workers: Jobs at a time, those in the queue included.
        folder: The run's folder.
        asked: What every job asks for, see `check_jobs`.

    Raises:
        ImportError: submitit is not installed.
    """

    def __init__(
        self,
        trial: Trial,
        dataset: Any,
        workers: int,
        folder: Path,
        asked: Mapping[str, Any],
        **options: Any,
    ) -> None:
        super().__init__(trial, dataset, **options)
        self.folder = folder.resolve() / JOBS / uuid.uuid4().hex[:8]
        self._asked = check_jobs(asked)
        self.on_this_machine = self._asked.get("cluster") == "local"
        self._jobs = [_Job(self) for _ in range(max(1, workers))]

    @property
    def workers(self) -> int:
        """See `Engine.workers`."""
        return len(self._jobs)

    def close(self) -> None:
        """See `Engine.close`; what the jobs shared is removed, logs of jobs that died stay."""
        with held_back():
            super().close()
            self._data.unlink(missing_ok=True)
            for folder in (self.folder, self.folder.parent):
                with suppress(OSError):  # there are logs in it, or it was never made
                    folder.rmdir()

    def _present(self) -> Collection[_Job]:
        if not self._data.exists():
            with replacing(self._data) as temporary:
                temporary.write_bytes(pack(self._trial, self._dataset))
        return self._jobs

    @property
    def _data(self) -> Path:
        return self.folder / "data.pickle"

    def submit(self, config: TrialConfig) -> tuple[Any, Path]:
        """Submit the job of a trial; return it, and the folder of its files.

        Raises:
            GraphnormsError: Slurm takes no job.
        """
        import submitit

        place = self.folder / uuid.uuid4().hex[:8]
        minutes = _MINUTES if self._timeout is None else math.ceil(self._timeout / 60) + _START
        asked = {"time": minutes, **self._asked}
        try:
            executor = submitit.AutoExecutor(place, cluster=asked.pop("cluster", "slurm"))
            executor.update_parameters(
                name="graphnorms",
                timeout_min=minutes,
                stderr_to_stdout=True,
                **{f"slurm_{name}": value for name, value in asked.items()},
            )
            job = executor.submit(run, self._data, self._timeout, config, place / _EPOCHS)
        except Exception as error:  # of submitit, and of the commands that it calls
            raise GraphnormsError(f"Slurm does not take a job: {one_line(error)}") from error
        return job, place


class _Job:
    """A place for one job at a time; the `Worker` of this engine."""

    def __init__(self, engine: SlurmJobs) -> None:
        self.name = "Slurm job"
        self._engine = engine
        self._killed = False

    def run_trial(self, config: TrialConfig, tell: Callable[[int], None]) -> Record:
        """See `Worker.run_trial`."""
        self._killed = False
        job, place = self._engine.submit(config)
        self.name = f"Slurm job {job.job_id}"
        while not (job.done() or self._killed):
            tell(_epochs(place) or 0)
            time.sleep(_POLL)
        if self._killed:
            self._cancel(job)
            raise DiedError("cancelled", begun=True)
        return self._record(job, place)

    def _record(self, job: Any, place: Path) -> Record:
        try:
            answer: Record | DiedError | StartError = job.result()
        except Exception as error:  # of submitit: there is no result
            how = f"{self.name}, {job.state}, see {place}"
            raise DiedError(how, begun=_epochs(place) is not None) from error
        shutil.rmtree(place, ignore_errors=True)
        if isinstance(answer, DiedError | StartError):
            raise answer
        return answer

    def kill(self) -> None:
        """See `Worker.kill`; the thread that waits for the job cancels it."""
        self._killed = True

    def _cancel(self, job: Any) -> None:
        with suppress(Exception):
            job.cancel(check=False)
            if self._engine.on_this_machine:  # a process must be waited for
                deadline = time.monotonic() + _LONGEST_END
                while not job.done() and time.monotonic() < deadline:
                    time.sleep(TICK)


def check_jobs(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Check what every job asks for, and return it with numbers as numbers.

    The names are those of sbatch, with `_` for `-`: `partition`, `time` (minutes, or as sbatch
    takes it; 60 by default, or what `timeout` needs), `mem`, `gres`, `account`, `qos`,
    `constraint`, `cpus_per_task`, …; `additional_parameters` is a mapping of any others.
    `cluster=local` runs the jobs as processes of this machine, to try it out.

    Raises:
        ValueError: A name is not known, or there is no Slurm here.
        ImportError: submitit is not installed.
    """
    try:
        from submitit import SlurmExecutor
    except ImportError:
        raise ImportError("the slurm engine needs: pip install 'graphnorms[slurm]'") from None
    known = ["cluster", *sorted(SlurmExecutor._valid_parameters() - _OWN)]
    for name, value in asked.items():
        if name not in known:
            raise unknown_name("option of the slurm engine", name, known)
        if name == "cluster" and value not in ("slurm", "local"):
            raise unknown_name("cluster", str(value), ("slurm", "local"))
    if asked.get("cluster", "slurm") == "slurm" and SlurmExecutor.affinity() < 0:
        raise ValueError(
            "the slurm engine finds no srun; start it on a node where Slurm takes jobs, or try it "
            "out with --engine-options cluster=local"
        )
    whole = {name: int(value) for name, value in asked.items() if str(value).isdecimal()}
    return {**asked, **whole}


def _epochs(place: Path) -> int | None:
    """Return the epochs that a job has reported; None before its trial has begun."""
    try:
        return int((place / _EPOCHS).read_text())
    except (OSError, ValueError):
        return None


# What runs in a job.


def run(
    data: Path, timeout: float | None, config: TrialConfig, epochs: Path
) -> Record | DiedError | StartError:
    """Run a trial, and write the number of finished epochs into a file."""
    told = -math.inf

    def tell(number: int) -> None:
        nonlocal told
        if number == 0 or time.monotonic() - told >= TICK:
            told = time.monotonic()
            temporary = epochs.with_suffix(".new")
            temporary.write_text(str(number))
            temporary.replace(epochs)

    process = Process(data.read_bytes(), timeout, fresh=True)
    try:
        return process.run_trial(config, tell)
    except (DiedError, StartError) as error:
        return error
