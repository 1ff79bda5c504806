"""The records of a comparison, sorted by norm and fold, as the arrays that statistics need."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # records are only read here: no need to load the training code, and torch
    from graphnorms.training.record import Record

Fold: TypeAlias = tuple[int, int, int]
"""What pairs two trials: `(split_seed, fold, seed)`, equal for all norms."""


@dataclass(frozen=True)
class Trials:
    """The trials of one norm, done and failed apart, by ascending fold."""

    norm: str
    done: dict[Fold, Record] = field(default_factory=dict)
    failed: dict[Fold, Record] = field(default_factory=dict)

    def curves(self, quantity: str) -> NDArray[np.float64]:
        """Return `history[quantity]` of the done trials, NaN where an epoch is missing.

        Shape `(folds, epochs)`.
        """
        return _padded([record.history.get(quantity, []) for record in self.done.values()])

    def seconds(self) -> NDArray[np.float64]:
        """Return the training seconds up to the end of each epoch, evaluation not included.

        Shape `(folds, epochs)`.
        """
        times = _padded([record.timing.get("train", []) for record in self.done.values()])
        elapsed: NDArray[np.float64] = np.cumsum(times, axis=1)
        return elapsed

    def last(self, quantity: str) -> dict[Fold, float]:
        """Return `quantity` after the last epoch, per fold; folds that lack it are left out."""
        values = {fold: _last(record, quantity) for fold, record in self.done.items()}
        return {fold: value for fold, value in values.items() if not math.isnan(value)}


def group_trials(records: Iterable[Record], norms: Sequence[str] = ()) -> dict[str, Trials]:
    """Sort records by norm, in the order of `norms` and then of first appearance.

    Args:
        records: Records of one comparison. Of several for one config the last counts: a trial
            that failed may have been run again.
        norms: Names that get an entry even without records.

    Raises:
        ValueError: A norm has two different configs for one fold.
    """
    latest: dict[tuple[str, Fold], Record] = {}
    order = dict.fromkeys(norms)
    for record in records:
        norm, fold = record.config["norm"], _fold(record)
        order.setdefault(norm)
        earlier = latest.get((norm, fold))
        if earlier is not None and earlier.key != record.key:
            raise ValueError(
                f"norm {norm!r} has two trials of fold {fold[1]} with different settings "
                f"({earlier.key} and {record.key}); judge the records of one comparison at a time"
            )
        latest[norm, fold] = record
    trials = {norm: Trials(norm) for norm in order}
    for (norm, fold), record in sorted(latest.items(), key=lambda item: item[0]):
        kind = trials[norm].done if record.status == "done" else trials[norm].failed
        kind[fold] = record
    return trials


def column_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over folds, NaN left out; NaN where no fold has a value. `(folds, n) -> (n,)`."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    mean: NDArray[np.float64] = np.full(total.shape, math.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _fold(record: Record) -> Fold:
    config = record.config
    return config.get("split_seed", 0), config["fold"], config.get("seed", 0)


def _last(record: Record, quantity: str) -> float:
    values = record.history.get(quantity) or [math.nan]
    return math.nan if values[-1] is None else float(values[-1])


def _padded(rows: Sequence[Sequence[float | None]]) -> NDArray[np.float64]:
    """Stack rows of different lengths; a journal stores NaN as null."""
    result = np.full((len(rows), max(map(len, rows), default=0)), math.nan)
    for line, row in zip(result, rows, strict=True):
        line[: len(row)] = [math.nan if value is None else value for value in row]
    return result
