"""How far a comparison is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from graphnorms.lab.plan import Plan
    from graphnorms.training import Record

_SECONDS_TO_KNOW_THE_SPEED: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a comparison stands.

    Args:
        plan: What is being done.
        records: Outcomes so far, those of earlier calls included, in the order of the plan.
        latest: The outcome that has just come in, if that is why this is told.
        running: Epochs done in the trials that are running, by norm.
        elapsed: Seconds since this call began to train.
        remaining: Seconds that are left at the speed so far; None until that is known.
    """

    plan: Plan
    records: tuple[Record, ...]
    latest: Record | None
    running: Mapping[str, int]
    elapsed: float
    remaining: float | None


class Clock:
    """Time passed, and time left at the speed of the epochs so far.

    The speed counts from the first epoch on: before it, processes start and libraries load.

    Args:
        epochs: What there is to do.
    """

    def __init__(self, epochs: int) -> None:
        self._total = epochs
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self.elapsed = 0.0
        self.remaining: float | None = None

    def note(self, done: int) -> None:
        """Take notice of how many epochs are done now."""
        now = time.monotonic()
        self.elapsed = now - self._start
        if self._first is None:
            self._first = (now, done) if done else None
            return
        seconds, epochs = now - self._first[0], done - self._first[1]
        if seconds > _SECONDS_TO_KNOW_THE_SPEED and epochs > 0:
            self.remaining = max(0, self._total - done) * seconds / epochs
