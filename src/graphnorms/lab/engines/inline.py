"""Trials in this process: for debuggers, and where a process is not worth its start."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

from graphnorms.lab.engines.attempt import NotTheTrialError, Trial, attempt, timed_out
from graphnorms.lab.engines.engine import TICK, Engine, OnProgress, Queue, Then

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig


class ThisProcess(Engine):
    """Run trials one after the other in this process, with one thread as a worker has.

    A trial that raises is recorded; one that is killed takes this process with it. What modules
    keep, as classes of the user's own do, goes from one trial to the next.

    Args:
        trial: The trial function.
        dataset: Its second argument.
        timeout: Seconds that a trial may take, looked at after each epoch; None: as many as it
            needs.
    """

    def __init__(self, trial: Trial, dataset: Any, timeout: float | None = None) -> None:
        self._trial = trial
        self._dataset = dataset
        self._timeout = timeout

    @property
    def workers(self) -> int:
        """See `Engine.workers`."""
        return 1

    def run(
        self,
        configs: Iterable[TrialConfig],
        on_progress: OnProgress | None = None,
        then: Then | None = None,
    ) -> Generator[Record, None, None]:
        """See `Engine.run`."""
        from graphnorms.training import threads
        from graphnorms.user_code import interrupts

        waiting = Queue(configs)
        while waiting:
            config = waiting.next()
            counting = _Counting(config, on_progress, self._timeout)
            with threads(1), interrupts() as pressed:
                try:
                    record = attempt(self._trial, config, self._dataset, counting)
                except _OverTimeError:
                    record = timed_out(config, self._timeout or 0)
            if counting.error is not None:
                raise counting.error
            if asked := pressed():
                raise asked
            yield record
            if then is not None:
                waiting.put_first(then(record))

    def close(self) -> None:
        """See `Engine.close`; there is nothing to end."""


class _OverTimeError(NotTheTrialError):
    """The trial has had its time."""


class _Counting:
    """Tell `on_progress` of the epochs of the one running trial, a few times per second.

    What `on_progress` raises is no fault of the trial that happens to be running: it is kept in
    `error` for the engine to raise.
    """

    def __init__(
        self, config: TrialConfig, on_progress: OnProgress | None, timeout: float | None
    ) -> None:
        self.error: BaseException | None = None
        self._config = config
        self._on_progress = on_progress
        self._epochs = 0
        self._told = time.monotonic()
        self._deadline = math.inf if timeout is None else self._told + timeout

    def __call__(self) -> None:
        self._epochs += 1
        now = time.monotonic()
        if now > self._deadline:
            raise _OverTimeError
        if self._on_progress is None or now - self._told < TICK:
            return
        self._told = now
        try:
            self._on_progress({self._config.key: self._epochs})
        except BaseException as error:
            self.error = error
            raise
