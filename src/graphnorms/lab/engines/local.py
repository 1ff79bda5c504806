"""Trials in worker processes of this machine, with one thread each."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.errors import GraphnormsError
from graphnorms.lab.engines.attempt import (
    NothingUnpackedError,
    Retries,
    StartError,
    Trial,
    pack,
    timed_out,
)
from graphnorms.lab.engines.engine import TICK, Engine, OnProgress, Queue, Then
from graphnorms.lab.engines.worker import Worker, interrupts_held_back

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

_FAILED_STARTS_ALLOWED = 3


class WorkerProcesses(Engine):
    """Run trials in worker processes, in parallel if there are several.

    Every worker is a loky pool of its own with one process. When a process dies, it is then known
    which trial it had and no other trial is disturbed; in one shared pool a single death fails
    everything that is running. A trial whose process died is run once more; so is one whose record
    got lost on its way, and if that happens again and again the run ends. A process starts with the
    first trial that needs it.

    Args:
        trial: The trial function.
        dataset: Its second argument; sent to each process once.
        workers: The number of processes.
        timeout: Seconds that a trial may take, see `make_engine`.
        fresh: Whether every trial has a process of its own.
    """

    def __init__(
        self,
        trial: Trial,
        dataset: Any,
        workers: int,
        *,
        timeout: float | None = None,
        fresh: bool = False,
    ) -> None:
        self._trial = trial
        self._dataset = dataset
        self._number = workers
        self._timeout = timeout
        self._fresh = fresh
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._workers: list[Worker] = []

    @property
    def workers(self) -> int:
        """See `Engine.workers`."""
        return self._number

    def run(
        self,
        configs: Iterable[TrialConfig],
        on_progress: OnProgress | None = None,
        then: Then | None = None,
    ) -> Generator[Record, None, None]:
        """See `Engine.run`.

        Raises:
            GraphnormsError: Worker processes cannot be started.
        """
        waiting = Queue(configs)
        if not waiting:
            return
        idle = self._open()
        running: dict[Future[Record], tuple[TrialConfig, Worker]] = {}
        deaths = _Deaths()

        def start() -> None:
            while idle and waiting:
                config, worker = waiting.next(), idle.pop()
                running[worker.start(config)] = (config, worker)

        try:
            while waiting or running:
                start()
                ended, _ = wait(running, timeout=TICK, return_when=FIRST_COMPLETED)
                late = [future for future in running if self._is_late(*running[future])]
                for future in {*ended, *late}:
                    config, worker = running.pop(future)
                    idle.append(worker)
                    if future in ended:
                        record = deaths.record_or_none(future, config, worker)
                    else:
                        record = timed_out(config, self._timeout or 0)
                    if self._fresh or future not in ended:
                        worker.kill()
                    if record is None:
                        waiting.again(config)
                        continue
                    start()  # no process waits for what is now done with the record
                    yield record
                    if then is not None:
                        waiting.put_first(then(record))
                if on_progress is not None:
                    on_progress({c.key: w.epochs(c) for c, w in running.values()})
        finally:
            with interrupts_held_back():
                for worker in self._workers:
                    if worker not in idle:
                        worker.kill()

    def close(self) -> None:
        """See `Engine.close`."""
        with interrupts_held_back():
            for worker in self._workers:
                worker.kill()
            self._workers = []
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def _is_late(self, config: TrialConfig, worker: Worker) -> bool:
        return self._timeout is not None and worker.seconds(config) > self._timeout

    def _open(self) -> list[Worker]:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(
                prefix="graphnorms-", ignore_cleanup_errors=True
            )
            packed, folder = pack(self._trial, self._dataset), Path(self._folder.name)
            self._workers = [Worker(packed, folder) for _ in range(self._number)]
        return list(self._workers)


class _Deaths:
    """What has died so far, and what follows from it."""

    def __init__(self) -> None:
        self._retries = Retries()
        self._at_start = 0  # in a row

    def record_or_none(
        self, future: Future[Record], config: TrialConfig, worker: Worker
    ) -> Record | None:
        """Return the record of a trial that ended, or None when it is to be run once more."""
        from loky.process_executor import TerminatedWorkerError

        try:
            record = future.result()
            self._at_start = 0
            return record
        except StartError as error:
            raise GraphnormsError(f"workers cannot start: {error}") from None
        except NothingUnpackedError:
            worker.kill()
            return None
        except TerminatedWorkerError as error:
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
            return self._retries.died(config, _exit_code(error))
        except Exception as error:  # of whatever carries the record, not of the trial
            worker.kill()
            self._retries.lost(config, error)
            return None


def _exit_code(error: BaseException) -> str:
    """Take from loky's message how the process ended, e.g. `SIGKILL(-9)`."""
    found = re.search(r"\{(.+?)\}", str(error))
    code = found.group(1) if found else "exit code unknown"
    return f"{code}, out of memory?" if "SIGKILL" in code else code
