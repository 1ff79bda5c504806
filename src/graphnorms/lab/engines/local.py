"""Engines of this machine: in worker processes, or in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from graphnorms.interrupts import held_back
from graphnorms.lab.engines.attempt import NotTheTrialError, Trial, attempt, timed_out
from graphnorms.lab.engines.engine import Engine
from graphnorms.lab.engines.process import Process, fork_server

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig


class WorkerProcesses(Engine):
    """Run trials in worker processes with one thread each, `workers` at a time.

    They share the memory of large tensors of the data, which lie in a temporary file, and on Linux
    what they import, see `fork_server`.
    """

    def __init__(self, trial: Trial, dataset: Any, workers: int, **options: Any) -> None:
        super().__init__(trial, dataset, **options)
        self._number = workers
        self._processes: list[Process] = []
        self._fork_server = fork_server()
        self._shared: TemporaryDirectory[str] | None = None

    @property
    def workers(self) -> int:
        """See `Engine.workers`."""
        return self._number

    def _present(self) -> Collection[Process]:
        from graphnorms.lab.engines.packing import pack

        if not self._processes:
            # On Windows a file cannot be removed while a process that has just ended maps it.
            self._shared = TemporaryDirectory(prefix="graphnorms-", ignore_cleanup_errors=True)
            packed = pack(self._trial, self._dataset, Path(self._shared.name) / "tensors")
            options = packed, self._timeout, self._fresh, self._fork_server
            self._processes = [Process(*options) for _ in range(self._number)]
        return self._processes

    def close(self) -> None:
        """See `Engine.close`."""
        with held_back():
            for process in self._processes:
                process.kill()
            self._processes = []
            if self._fork_server is not None:
                self._fork_server.close()
            if self._shared is not None:
                self._shared.cleanup()
            super().close()


class ThisProcess(Engine):
    """Run trials one after the other in this process, with one thread as a worker has.

    A trial that is killed takes this process with it. What modules keep, such as attributes of the
    user's classes, goes from one trial to the next. The time limit is checked after each epoch.
    """

    name = "this process"
    _in_this_thread = True

    @property
    def workers(self) -> int:
        """See `Engine.workers`."""
        return 1

    def _present(self) -> Collection[ThisProcess]:
        return (self,)

    def _make_executor(self) -> Executor:
        return _AtOnce()

    def run_trial(self, config: TrialConfig, tell: Callable[[int], None]) -> Record:
        """See `Worker.run_trial`; what `tell` raises, and a real Ctrl-C, is raised again here."""
        from graphnorms.training import threads
        from graphnorms.user_code import interrupts

        timeout = math.inf if self._timeout is None else self._timeout
        deadline = time.monotonic() + timeout
        epochs = 0
        error: BaseException | None = None

        def on_epoch() -> None:
            nonlocal epochs, error
            epochs += 1
            if time.monotonic() > deadline:
                raise _OverTimeError
            try:
                tell(epochs)
            except BaseException as of_display:
                error = of_display
                raise

        with threads(1), interrupts() as pressed:
            try:
                record = attempt(self._trial, config, self._dataset, on_epoch)
            except _OverTimeError:
                record = timed_out(config, timeout)
        error = error or pressed()
        if error is not None:
            raise error
        return record

    def kill(self) -> None:
        """See `Worker.kill`; nothing runs when this can be called."""


class _OverTimeError(NotTheTrialError):
    """The trial has had its time."""


class _AtOnce(Executor):
    """Calls a function when it is submitted; what the function raises is raised there."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **options))
        return future
