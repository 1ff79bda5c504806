"""Where trials run: in this process, or in worker processes with one thread each.

An engine takes trial configs and yields records in the order in which trials end. It survives
what trials do: one that raises, or whose process dies, becomes a failed record and stops no
other. The trial function does not know which engine runs it.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from graphnorms.errors import GraphnormsError
from graphnorms.lab.workers import (
    NothingUnpackedError,
    StartError,
    Trial,
    Worker,
    attempt,
    failed,
    interrupts_held_back,
    one_line,
    pack,
)

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

OnProgress = Callable[[Mapping[str, int]], None]
"""Called a few times per second with the epochs that each running trial has finished, by key."""

WORKER_DIED = "its worker process died"
"""How the reason of a trial begins that was lost to no fault known to be its own."""

_RETRIES = 1
_WORKERS_ON_A_GPU = 4
_FAILED_STARTS_ALLOWED = 3
_TICK = 0.2  # seconds between two calls of `on_progress`


class Engine(Protocol):
    """What runs trials."""

    def run(
        self, configs: Sequence[TrialConfig], on_progress: OnProgress | None = None
    ) -> Generator[Record, None, None]:
        """Run the trials and yield their records as they end.

        Closing the iterator, or an exception such as `KeyboardInterrupt` inside it, stops what
        is running at once.
        """
        ...


def local_engine(trial: Trial, dataset: Any, workers: int) -> Engine:
    """Return the engine for this machine: worker processes, or this process for one worker."""
    return WorkerProcesses(trial, dataset, workers) if workers > 1 else ThisProcess(trial, dataset)


def default_workers(device: str) -> int:
    """Return how many trials to run at a time when nothing is said.

    One per core that this process may use, which can be fewer than the machine has. Trials on a
    GPU share it, and each holds its own copy of the libraries there: four at most.
    """
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return cores if device == "cpu" else min(cores, _WORKERS_ON_A_GPU)


def is_settled(record: Record | None) -> bool:
    """Whether a trial with this record, or none, needs no further run.

    A trial that failed by itself would fail again. One whose process died may have done nothing
    wrong, and is tried again whenever the run is continued.
    """
    if record is None:
        return False
    return record.status == "done" or not record.reason.startswith(WORKER_DIED)


class ThisProcess:
    """Run trials one after the other in this process, with one thread as a worker has.

    Args:
        trial: The trial function.
        dataset: Its second argument.
    """

    def __init__(self, trial: Trial, dataset: Any) -> None:
        self._trial = trial
        self._dataset = dataset

    def run(
        self, configs: Sequence[TrialConfig], on_progress: OnProgress | None = None
    ) -> Generator[Record, None, None]:
        """See `Engine.run`."""
        import torch

        threads = torch.get_num_threads()
        for config in configs:
            counting = _Counting(config, on_progress)
            torch.set_num_threads(1)
            try:
                record = attempt(self._trial, config, self._dataset, counting)
            finally:
                torch.set_num_threads(threads)
            if counting.error is not None:
                raise counting.error
            yield record


class _Counting:
    """Tell `on_progress` of the epochs of the one running trial, a few times per second.

    What `on_progress` raises is no fault of the trial that happens to be running: it is kept in
    `error` for the engine to raise.
    """

    def __init__(self, config: TrialConfig, on_progress: OnProgress | None) -> None:
        self.error: BaseException | None = None
        self._config = config
        self._on_progress = on_progress
        self._epochs = 0
        self._told = time.monotonic()

    def __call__(self) -> None:
        self._epochs += 1
        now = time.monotonic()
        if self._on_progress is None or now - self._told < _TICK:
            return
        self._told = now
        try:
            self._on_progress({self._config.key: self._epochs})
        except BaseException as error:
            self.error = error
            raise


class WorkerProcesses:
    """Run trials in parallel worker processes.

    Every worker is a loky pool of its own with one process. When a process dies, it is then known
    which trial it had and no other trial is disturbed; in one shared pool a single death fails
    everything that is running. A trial whose process died is run once more.

    Args:
        trial: The trial function.
        dataset: Its second argument; sent to each process once.
        workers: The number of processes.
    """

    def __init__(self, trial: Trial, dataset: Any, workers: int) -> None:
        self._packed = pack(trial, dataset)
        self._workers = workers

    def run(
        self, configs: Sequence[TrialConfig], on_progress: OnProgress | None = None
    ) -> Generator[Record, None, None]:
        """See `Engine.run`.

        Raises:
            GraphnormsError: Worker processes cannot be started.
        """
        waiting = deque(configs)
        running: dict[Future[Record], tuple[TrialConfig, Worker]] = {}
        deaths = _Deaths()
        with tempfile.TemporaryDirectory(prefix="graphnorms-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            workers = [Worker(self._packed, folder) for _ in range(self._workers)]
            idle = list(workers)
            try:
                while waiting or running:
                    while idle and waiting:
                        config, worker = waiting.popleft(), idle.pop()
                        running[worker.start(config)] = (config, worker)
                    ended, _ = wait(running, timeout=_TICK, return_when=FIRST_COMPLETED)
                    for future in ended:
                        config, worker = running.pop(future)
                        idle.append(worker)
                        record = deaths.record_or_none(future, config, worker)
                        if record is None:
                            waiting.appendleft(config)
                        else:
                            yield record
                    if on_progress is not None:
                        on_progress({c.key: w.epochs(c) for c, w in running.values()})
            finally:
                with interrupts_held_back():
                    for worker in workers:
                        worker.kill()


class _Deaths:
    """What has died so far, and what follows from it."""

    def __init__(self) -> None:
        self._of_trial: Counter[str] = Counter()
        self._at_start = 0  # in a row

    def record_or_none(
        self, future: Future[Record], config: TrialConfig, worker: Worker
    ) -> Record | None:
        """Return the record of a trial that ended, or None when it is to be run once more."""
        from loky.process_executor import BrokenProcessPool

        try:
            record = future.result()
            self._at_start = 0
            return record
        except StartError as error:
            raise GraphnormsError(f"workers cannot start: {error}") from None
        except NothingUnpackedError:
            worker.kill()
            return None
        except BrokenProcessPool as error:
            begun = worker.begun(config)
            worker.kill()  # makes room for the next process
            if not begun:
                self._at_start += 1
                if self._at_start > _FAILED_STARTS_ALLOWED:
                    raise GraphnormsError(
                        f"worker processes die while they start ({_exit_code(error)})"
                    ) from None
                return None
            self._at_start = 0
            self._of_trial[config.key] += 1
            if self._of_trial[config.key] <= _RETRIES:
                return None
            return failed(config, f"{WORKER_DIED} twice ({_exit_code(error)})")
        except Exception as error:  # the record could not be sent
            return failed(config, one_line(error))


def _exit_code(error: BaseException) -> str:
    """Take from loky's message how the process ended, e.g. `SIGKILL(-9)`."""
    found = re.search(r"\{(.+?)\}", str(error))
    code = found.group(1) if found else "exit code unknown"
    return f"{code}, out of memory?" if "SIGKILL" in code else code
