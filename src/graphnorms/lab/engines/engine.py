"""What every engine offers, whatever it runs trials on."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from graphnorms.training import Record, TrialConfig

OnProgress = Callable[[Mapping[str, int]], None]
"""Called a few times per second with the epochs that each running trial has finished, by key."""

Then = Callable[["Record"], "Iterable[TrialConfig]"]
"""Given the record of a trial, returns the trials that are to be run because of it, often none."""

TICK = 0.2
"""Seconds between two calls of `OnProgress`."""

_WORKERS_ON_A_GPU = 4


class Engine(ABC):
    """Takes the configs of trials and gives their records.

    It survives what trials do: one that raises, or whose process dies, becomes a failed record
    and stops no other. Processes, and the data in them, are kept from one call of `run` to the
    next and let go of by `close`, or at the end of a `with` block. The trial function does not
    know which engine runs it.
    """

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many trials run at a time."""

    @abstractmethod
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
            then: Asked for more trials after each record, when whoever iterates comes back for
                the next one: it has then dealt with that record. They come before what is still
                waiting. While `then` waits for more records, others keep running.

        Raises:
            GraphnormsError: There are no processes to run trials in.
        """

    @abstractmethod
    def close(self) -> None:
        """End what the engine has started; closing twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Queue:
    """Trials that are still to be run, each of them once.

    Args:
        configs: The first of them.
    """

    def __init__(self, configs: Iterable[TrialConfig]) -> None:
        self._waiting: deque[TrialConfig] = deque()
        self._seen: set[str] = set()
        self.put_first(configs)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put_first(self, configs: Iterable[TrialConfig]) -> None:
        """Add those that have not been here before, in their order, ahead of what waits.

        What follows from outcomes is done while what it is compared with is done.
        """
        new = []
        for config in configs:
            if config.key not in self._seen:
                self._seen.add(config.key)
                new.append(config)
        self._waiting.extendleft(reversed(new))

    def again(self, config: TrialConfig) -> None:
        """Put a trial that was lost at the front."""
        self._waiting.appendleft(config)

    def next(self) -> TrialConfig:
        """Take the first."""
        return self._waiting.popleft()


def default_workers(device: str) -> int:
    """Return how many trials to run at a time when nothing is said.

    One per core that this process may use, which can be fewer than the machine has. Trials on a
    GPU share it, and each holds its own copy of the libraries there: four at most.
    """
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return cores if device == "cpu" else min(cores, _WORKERS_ON_A_GPU)
