"""Log trials while others run, or afterwards: `--log`.

Each tracker works in a thread of its own, so that one that is slow or gone stops no training.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from graphnorms.errors import GraphnormsError, one_line, unknown_name
from graphnorms.lab.trackers import TRACKERS, Tracker, logged

if TYPE_CHECKING:
    from graphnorms.training import Record

_log = logging.getLogger(__name__)

_AT_THE_END: Final = 60.0  # seconds to wait for what is not logged yet
_AFTER_A_SIGNAL: Final = 5.0


def trackers_of(log: str | Sequence[str] | None, folder: Path) -> list[Tracker]:
    """Return the trackers that an option names, checked.

    Args:
        log: `name` or `name:target`, or several as a list or separated by commas.
        folder: The run's.

    Raises:
        ValueError: There is no such tracker, or it cannot be used.
        ImportError: Its package is not installed.
    """
    texts = log.split(",") if isinstance(log, str) else log or ()
    found: list[Tracker] = []
    for text in filter(None, map(str.strip, texts)):
        name, _, target = text.partition(":")
        if name not in TRACKERS:
            raise unknown_name("log", name, TRACKERS)
        tracker: Tracker = TRACKERS[name](target, folder)
        tracker.check()
        found.append(tracker)
    return found


class Logging:
    """Logs trials while others run; a `with` block waits at its end until all are logged.

    A tracker that fails is warned of once, and gets no more trials.

    Args:
        trackers: Where trials are logged.
        patience: Seconds to wait at the end.
    """

    def __init__(self, trackers: Iterable[Tracker], patience: float = _AT_THE_END) -> None:
        self._lines = [_Line(tracker) for tracker in trackers]
        self._patience = patience

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # After Ctrl-C or SIGTERM there is little time.
        self.close(self._patience if kind is None else min(self._patience, _AFTER_A_SIGNAL))

    def add(self, record: Record) -> None:
        """Log a trial, soon."""
        for line in self._lines:
            line.waiting.put(record)

    def close(self, patience: float) -> None:
        """Wait until everything is logged, but so many seconds at most."""
        for line in self._lines:
            line.waiting.put(None)
        deadline = time.monotonic() + patience
        for line in self._lines:
            line.thread.join(max(0.0, deadline - time.monotonic()))
            if line.thread.is_alive():
                _warn_of(line.tracker, "it takes too long")
                line.stopped = True


class _Line:
    """The thread of one tracker, and the trials that wait for it."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.waiting: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self.stopped = False
        self.thread = threading.Thread(target=self._work, name=tracker.name, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self.tracker.connect()
            while (record := self.waiting.get()) is not None and not self.stopped:
                if not self.tracker.has(record.key):
                    self.tracker.add(logged(record))
        except BaseException as error:  # of any library; it must not end the training
            _warn_of(self.tracker, one_line(error))
            while self.waiting.get() is not None:
                pass


def _warn_of(tracker: Tracker, reason: str) -> None:
    _log.warning(
        "%s: not every trial is logged (%s); graphnorms show %s --log %s logs the rest",
        *(tracker.name, reason, tracker.folder, tracker.name),
    )


def log_all(records: Iterable[Record], trackers: Iterable[Tracker]) -> Iterator[tuple[str, int]]:
    """Log records that are there already; yield each tracker's name and how many are new.

    Raises:
        GraphnormsError: A tracker fails.
    """
    records = list(records)
    for tracker in trackers:
        try:
            tracker.connect()
            new = [record for record in records if not tracker.has(record.key)]
            for record in new:
                tracker.add(logged(record))
        except Exception as error:
            raise GraphnormsError(f"{tracker.name} does not log: {one_line(error)}") from error
        yield tracker.name, len(new)
