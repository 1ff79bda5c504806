"""The loop of every engine: which trial runs next, and what follows from how it ended.

An engine is a set of workers, each of which runs one trial at a time, and an executor whose threads
wait for them. Retries, progress and the end of what is running are written here for all engines.
"""

from __future__ import annotations

import logging
import os
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from graphnorms.errors import GraphnormsError, one_line
from graphnorms.interrupts import held_back
from graphnorms.lab.engines.attempt import WORKER_DIED, DiedError, StartError, Trial, failed

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

_log = logging.getLogger(__name__)

OnProgress = Callable[[Mapping[str, int]], None]
"""Called a few times per second with the epochs that each running trial has finished, by key."""

Then = Callable[["Record"], "Iterable[TrialConfig]"]
"""Given the record of a trial, returns the trials that follow from it, often none."""

TICK: Final = 0.2
"""Seconds between two calls of `OnProgress`."""

DEATHS: Final = 2
"""A trial fails when its worker process has died this often."""

LOSSES: Final = 3
"""The run ends when the record of one trial was lost on its way this often."""

FAILED_STARTS: Final = 4
"""The run ends when this many processes in a row have died before their trial began."""

_WORKERS_ON_A_GPU: Final = 4
_LONGEST_STOP: Final = 10.0  # seconds


class Worker(Protocol):
    """Runs one trial at a time. Messages name it, e.g. `dask worker tcp://10.0.0.1:40000`."""

    name: str

    def run_trial(self, config: TrialConfig, tell: Callable[[int], None]) -> Record:
        """Run a trial.

        Args:
            config: The trial.
            tell: Called with the number of finished epochs.

        Raises:
            StartError: The worker cannot run any trial.
            DiedError: The process of the trial died.
            Exception: The record was lost on its way; the trial is not to blame.
        """

    def kill(self) -> None:
        """End the running trial at once, if there is one."""


class Engine(ABC):
    """Takes the configs of trials and gives their records.

    It survives what trials do: one that raises, or whose process dies twice, becomes a failed
    record and stops no other. Processes, and the data in them, are kept from one call of `run` to
    the next and let go of by `close`, or at the end of a `with` block. The trial function does not
    know which engine runs it. Args: see `make_engine`.
    """

    _in_this_thread = False  # whether trials run in the thread that iterates
    _executor: Executor | None = None

    def __init__(
        self, trial: Trial, dataset: Any, timeout: float | None = None, fresh: bool = False
    ) -> None:
        self._trial, self._dataset = trial, dataset
        self._timeout, self._fresh = timeout, fresh

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many trials run at a time."""

    @abstractmethod
    def _present(self) -> Collection[Worker]:
        """Return the workers that there are now.

        Raises:
            GraphnormsError: There are none, and none will come.
        """

    def _make_executor(self) -> Executor:
        return ThreadPoolExecutor(max_workers=1 << 16)  # it starts those that are needed

    def run(
        self,
        configs: Iterable[TrialConfig],
        on_progress: OnProgress | None = None,
        then: Then | None = None,
    ) -> Generator[Record, None, None]:
        """Run trials and yield their records in the order in which they end.

        Each trial is run once, however often it is named. Closing the iterator, or an exception
        such as `KeyboardInterrupt` inside it, stops what is running at once. One call at a time.

        Args:
            configs: The trials that are known from the start.
            on_progress: Told how far the running trials are.
            then: Called after each record, once the caller asks for the next one. The trials that
                it returns run before those that are waiting.

        Raises:
            GraphnormsError: There are no processes to run trials in.
        """
        waiting = _Waiting(configs)
        running: dict[Future[Record], tuple[TrialConfig, Worker]] = {}
        epochs: dict[str, int] = {}
        shown = 0.0
        ends = _Ends()

        def start() -> None:
            busy = {worker for _, worker in running.values()}
            for worker in self._present():
                if waiting and worker not in busy:
                    config = waiting.popleft()
                    epochs[config.key] = 0
                    self._executor = self._executor or self._make_executor()
                    tell = partial(told, config.key)
                    future = self._executor.submit(worker.run_trial, config, tell)
                    running[future] = config, worker
                    _log.debug("trial %s on %s", config.key, worker.name)

        def told(key: str, number: int) -> None:
            if key in epochs:
                epochs[key] = number
            if self._in_this_thread:
                show()

        def show() -> None:
            nonlocal shown
            if on_progress is not None and time.monotonic() - shown > TICK / 2:
                shown = time.monotonic()
                on_progress(dict(epochs))

        try:
            while waiting or running:
                start()
                if not running:
                    time.sleep(TICK)
                for future in wait(running, TICK, FIRST_COMPLETED).done:
                    config, worker = running.pop(future)
                    del epochs[config.key]
                    record = ends.record_or_none(future, config, worker)
                    if record is None:
                        waiting.appendleft(config)
                        continue
                    if not self._in_this_thread:
                        start()  # the worker need not wait until the caller is done with the record
                    yield record
                    if then is not None:
                        waiting.put_first(then(record))
                show()
        finally:
            with held_back():
                _stop(running)

    def close(self) -> None:
        """End what the engine has started; closing twice does no harm."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _stop(running: Mapping[Future[Record], tuple[TrialConfig, Worker]]) -> None:
    """End what is running; a worker that is just starting its process is asked again."""
    deadline = time.monotonic() + _LONGEST_STOP
    while (left := wait(running, 0).not_done) and time.monotonic() < deadline:
        for future in left:
            running[future][1].kill()
        wait(left, TICK)


class _Waiting(deque["TrialConfig"]):
    """Trials that are still to be run, each of them once."""

    def __init__(self, configs: Iterable[TrialConfig]) -> None:
        super().__init__()
        self._seen: set[str] = set()
        self.put_first(configs)

    def put_first(self, configs: Iterable[TrialConfig]) -> None:
        """Add the trials that are new, in their order, before those that wait.

        Follow-up trials so run at the time of the trials that they are compared with.
        """
        new = {config.key: config for config in configs if config.key not in self._seen}
        self._seen |= new.keys()
        self.extendleft(reversed(new.values()))


class _Ends:
    """How trials have ended so far, and so which of them are run once more."""

    def __init__(self) -> None:
        self._deaths: Counter[str] = Counter()  # by the key of the trial
        self._losses: Counter[str] = Counter()
        self._failed_starts = 0  # in a row

    def record_or_none(
        self, future: Future[Record], config: TrialConfig, worker: Worker
    ) -> Record | None:
        """Return the record of a trial that ended, or None if it is to be run once more.

        Raises:
            GraphnormsError: No trial can be run, or the record was lost `LOSSES` times.
        """
        try:
            record = future.result()
        except StartError as error:
            raise GraphnormsError(f"{worker.name} cannot start: {error}") from None
        except DiedError as error:
            return self._died(config, error)
        except Exception as error:
            self._losses[config.key] += 1
            if self._losses[config.key] < LOSSES:
                _log.warning(
                    "the record of trial %s was lost (%s); it is run again",
                    config.key,
                    one_line(error),
                )
                return None
            raise GraphnormsError(
                f"the record of trial {config.key} could not be fetched {LOSSES} times "
                f"({one_line(error)}); what is done is kept: run the same command again to continue"
            ) from error
        self._failed_starts = 0
        return record

    def _died(self, config: TrialConfig, error: DiedError) -> Record | None:
        if not error.begun:
            self._failed_starts += 1
            if self._failed_starts < FAILED_STARTS:
                _log.warning("a worker process died while it started (%s)", error.how)
                return None
            raise GraphnormsError(f"worker processes die while they start ({error.how})") from None
        self._failed_starts = 0
        self._deaths[config.key] += 1
        if self._deaths[config.key] < DEATHS:
            _log.warning(
                "%s (%s) in trial %s (%s); it is run again",
                *(WORKER_DIED, error.how, config.key, config.norm),
            )
            return None
        return failed(config, f"{WORKER_DIED} twice ({error.how})")


def default_workers(device: str) -> int:
    """Return how many trials to run at a time when nothing is said.

    One per core that this process may use, which can be fewer than the machine has. Trials on a
    GPU share it, and each holds its own copy of the libraries there: four at most.
    """
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return cores if device == "cpu" else min(cores, _WORKERS_ON_A_GPU)
