"""The progress of a comparison, and the time that it still takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from graphnorms.lab.agenda import Agenda
from graphnorms.lab.phrases import duration
from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    from graphnorms.lab.plan import Plan
    from graphnorms.training import Record

_SHORT: Final = {"learning_rate": "lr", "weight_decay": "decay"}
_SECONDS_TO_KNOW_THE_SPEED: Final = 2.0


class Tally(NamedTuple):
    """Counts over the trials of one treatment so far.

    Args:
        ended: Trials with an outcome.
        failed: Those of them that failed.
        scored: Reported trials with a score, see `score_of`.
        total: The sum of these scores.
    """

    ended: int = 0
    failed: int = 0
    scored: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        """The mean score; None without a score."""
        return self.total / self.scored if self.scored else None

    def and_also(self, record: Record) -> Tally:
        """Return the tally with one more outcome."""
        score = score_of(record) if record.config["stage"] != "select" else None
        return Tally(
            self.ended + 1,
            self.failed + (record.status == "failed"),
            self.scored + (score is not None),
            self.total + (score or 0.0),
        )


def score_of(record: Record) -> float | None:
    """The score of a trial: on test data in stage `"final"`, else on validation data."""
    if record.status != "done":
        return None
    return record.outcome.get(
        "test_score" if record.config["stage"] == "final" else "validation_score"
    )


class Outcomes:
    """The outcomes so far, counted as they come in: a run may have ten thousands."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records: list[Record] = []
        self.tallies: dict[str, Tally] = {}
        for record in records:
            self.add(record)

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """Add one."""
        self._records.append(record)
        treatment = treatment_of(record.config)
        self.tallies[treatment] = self.tallies.get(treatment, Tally()).and_also(record)

    def first(self, number: int) -> list[Record]:
        """Return the outcomes that came first."""
        return self._records[:number]


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a comparison stands.

    Args:
        plan: What is being done.
        changes: Changes to the run that was in the folder, in words: `runs 1 → 3`.
        outcomes: All outcomes; later ones are added to it.
        ended: Number of outcomes so far.
        tallies: Their counts by treatment; one without an outcome has no entry.
        latest: The newest outcome, if it is the reason for this call.
        epochs: Epochs done, by treatment, also in the trials that are running.
        elapsed: Seconds since this call began to train.
        remaining: Seconds left at the speed so far; None until that is known.
        tests: Trials that test reasons: how many of this call have ended, and of how many; none
            before those of the verdict have.
    """

    plan: Plan
    changes: tuple[str, ...] = ()
    outcomes: Outcomes = field(repr=False)
    ended: int
    tallies: Mapping[str, Tally]
    latest: Record | None
    epochs: Mapping[str, int]
    elapsed: float
    remaining: float | None
    tests: tuple[int, int] = (0, 0)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """Return all outcomes so far, earlier calls included, in the order of the plan.

        Built at the first access, which goes through all trials of the plan.
        """
        return tuple(Agenda(self.plan.schedule, self.outcomes.first(self.ended)).records())


class Clock:
    """Time passed, and time left at the speed of the epochs so far.

    The speed counts from the first epoch on: before it, processes start and libraries load.

    Args:
        epochs: Epochs of all trials to run.
    """

    def __init__(self, epochs: int) -> None:
        self._total = epochs
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self.elapsed = 0.0
        self.remaining: float | None = None

    def note(self, done: int) -> None:
        """Update the times, given the epochs done so far."""
        now = time.monotonic()
        self.elapsed = now - self._start
        if self._first is None:
            self._first = (now, done) if done else None
            return
        seconds, epochs = now - self._first[0], done - self._first[1]
        if seconds > _SECONDS_TO_KNOW_THE_SPEED and epochs > 0:
            self.remaining = max(0, self._total - done) * seconds / epochs


def log_trial(log: logging.Logger, status: Status) -> None:
    """Log the end of the latest trial, if there is one."""
    record = status.latest
    if record is not None:
        level = logging.INFO if record.status == "done" else logging.WARNING
        if log.isEnabledFor(level):
            log.log(level, "%s", trial_line(status, record), extra={"displayed": True})


def trial_line(status: Status, record: Record) -> str:
    """Return one line on the end of a trial."""
    from graphnorms.lab.number_format import Scale
    from graphnorms.training import metric_named

    settings, config = status.plan.settings, record.config
    done, total = status.tests if status.tests[1] else (status.ended, settings.planned)
    stage = config.get("intervention") or f"{config['stage']:6}"
    split = config["split"]
    fold = f"fold {split['fold']:2}  " if settings.folds > 1 else ""
    if settings.repeats > 1:
        fold = f"repeat {split['seed'] - settings.split_seed}  {fold}"
    rate = ""
    if settings.search:
        rate = "".join(f"{_SHORT.get(n, n)} {v:<8g}  " for n, v in config["searched"].items())
    elif settings.learning_rates:
        width = max(len(f"{rate:g}") for rate in settings.learning_rates)
        rate = f"lr {config['learning_rate']:<{width}g}  "
        if settings.halving:
            rate += f"epochs {config['epochs']:{len(str(settings.epochs))}}  "
    kind = "test" if config["stage"] == "final" else "validation"
    value = score_of(record)
    if record.status == "failed":
        outcome = f"failed: {record.reason}"
    else:
        scale = Scale.fitting(metric_named(settings.metric), value, settings.unit)
        shown = "no {} score" if value is None else f"{{}} {scale.score(value)}"
        outcome = shown.format(kind)
    left = "" if status.remaining is None else f"  {duration(status.remaining)} left"
    return (
        f"{done:{len(str(total))}}/{total}  {stage}  {fold}"
        f"run {config['run']}  {rate}"
        f"{treatment_of(config):{max(map(len, settings.treatments))}}  {outcome}{left}"
    )
