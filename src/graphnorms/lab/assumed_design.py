"""What a table of scores is taken to be: folds, splits, seeds or data sets; and as trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean
from typing import Final, TypeVar

from graphnorms.errors import unknown_name
from graphnorms.lab.design import Design, Pair
from graphnorms.lab.score_entries import Entry, Reading
from graphnorms.lab.score_metric import ScoreMetric
from graphnorms.lab.score_tables import ScoreTable
from graphnorms.lab.trials import NormTrials, Trials
from graphnorms.training.record import Record

DESIGNS: Final = {
    "folds": "folds of a cross-validation, whose training sets overlap",
    "resampled": "splits drawn anew from the same data, whose training sets overlap",
    "seeds": "seeds on one split",
    "datasets": "independent data sets, one score each",
}
"""What scores can be repeated over, by name."""

Label = TypeVar("Label", str, tuple[str, str])

TEST_SHARE: Final = 0.2
"""Share of the data that a resampled split tests, if neither the user nor the table says it."""


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """A design, and where it comes from.

    Args:
        name: One of `DESIGNS`.
        reason: Why, in words.
        test_share: Share of the data that a split, or fold, tests; None: it follows from the number
            of folds, or from the items that the table counts, or there is none.
        share_assumed: Whether nobody said so.
        certain: Whether it is no guess, as the table's own trials say it.
    """

    name: str
    reason: str
    test_share: float | None = None
    share_assumed: bool = False
    certain: bool = False


def assume(
    table: ScoreTable, reading: Reading, given: str | None = None, test_share: float | None = None
) -> Assumed:
    """Say which design a table has: the one given, or what its format or its columns say.

    Raises:
        ValueError: There is no such design, the share is none, or does not fit the design.
    """
    if given is not None and given not in DESIGNS:
        raise unknown_name("design", given, DESIGNS)
    if test_share is not None and not 0 <= test_share < 1:
        raise ValueError(
            f"test share is {test_share}, expected a number from 0 (every split has data of its "
            "own) to below 1, e.g. 0.2"
        )
    name, reason = (given, "as said") if given is not None else _guess(table, reading)
    if name not in ("folds", "resampled"):
        if test_share is not None:
            raise ValueError(
                f"a test share is given, and design {name!r} ({DESIGNS[name]}) has none; "
                "--design resampled or folds takes it"
            )
        return Assumed(name=name, reason=reason, certain=given is None and table.noun == "norm")
    counted = all(len(entry.counts) == 2 for entry in reading.entries if not entry.failure)
    if name == "folds" or (counted and test_share is None):
        certain = given is None and table.noun == "norm"
        return Assumed(name=name, reason=reason, test_share=test_share, certain=certain)
    share = test_share if test_share is not None else table.test_share
    assumed = share is None
    return Assumed(
        name=name,
        reason=reason,
        test_share=TEST_SHARE if share is None else share,
        share_assumed=assumed,
    )


def _guess(table: ScoreTable, reading: Reading) -> tuple[str, str]:
    """Return a design and why it is the one."""
    most = max(Counter((entry.method, entry.dataset) for entry in reading.entries).values())
    columns = reading.roles.columns
    if most == 1 and len(reading.datasets) > 1:
        return "datasets", "as each method has one score per data set"
    if table.design:
        return table.design, table.reason
    for role, design in (("split", "resampled"), ("fold", "folds"), ("seed", "seeds")):
        if role in columns or reading.roles.spread == role:
            where = columns.get(role, "")
            of = f"the column {where!r}" if where and not reading.roles.spread else "its columns"
            return design, f"guessed from {of}"
    if "repeat" in columns:
        return "resampled", f"guessed from the column {columns['repeat']!r}"
    return "seeds", "guessed, as no column says what was repeated"


@dataclass(frozen=True, kw_only=True, eq=False)
class TableTrials(Trials):
    """The trials of a table, whose design is assumed.

    Args:
        assumed: How they are paired and tested.
    """

    assumed: Design

    @cached_property
    def design(self) -> Design:
        """How these trials are paired and tested."""
        return self.assumed


def trials_of(
    entries: Sequence[Entry], methods: Sequence[str], metric: ScoreMetric, assumed: Assumed
) -> TableTrials:
    """Group the scores of one data set, as trials of a comparison are grouped.

    Args:
        entries: Its scores.
        methods: All methods; those without a score there are left out.
        metric: What the scores are.
        assumed: The design.

    Raises:
        ValueError: There is one fold only.
    """
    if assumed.name == "datasets":
        entries = _means(entries)
    pair_of = _pairs(entries, assumed.name)
    folds = len({pair_of[entry.place][1] for entry in entries}) if assumed.name == "folds" else 0
    if folds == 1:
        raise ValueError("design 'folds' takes two folds at least, and the table has one")
    protocol = "nested" if folds else "split"
    by_method = {}
    for method in methods:
        own = [entry for entry in entries if entry.method == method]
        if own:
            found = NormTrials(norm=method, metric=metric.metric)
            for entry in sorted(own, key=lambda entry: pair_of[entry.place]):
                pair = pair_of[entry.place]
                (found.failed if entry.failure else found.done)[pair] = _record(entry, pair, folds)
            by_method[method] = found
    ratio = _test_ratio(entries, assumed, folds)
    design = Design(
        protocol=protocol,
        test_ratio=ratio,
        folds=folds,
        own_data=assumed.name == "resampled" and ratio == 0,
    )
    return TableTrials(protocol=protocol, metric=metric.metric, by_norm=by_method, assumed=design)


def _pairs(entries: Sequence[Entry], design: str) -> dict[tuple[str, str, str], Pair]:
    """Number what was repeated: the split's seed, the fold, and the run."""
    places = sorted({entry.place for entry in entries}, key=lambda place: [*map(_order, place)])
    by_fold = any(fold for _, fold, _ in places)

    if design in ("seeds", "datasets"):
        return {place: (0, 0, run) for run, place in enumerate(places)}
    # Without a column of folds, what is called a seed is the fold, or the split.
    inner = {place: place[2] if by_fold else "" for place in places}
    outer = {place: place[1] if by_fold else place[2] for place in places}
    runs = _numbers(sorted(set(inner.values()), key=_order))
    if design == "resampled":
        splits = _numbers([(place[0], outer[place]) for place in places])
        return {place: (0, splits[place[0], outer[place]], runs[inner[place]]) for place in places}
    repeats = _numbers([place[0] for place in places])
    folds = _numbers(sorted(set(outer.values()), key=_order))
    return {place: (repeats[place[0]], folds[outer[place]], runs[inner[place]]) for place in places}


def _numbers(labels: Iterable[Label]) -> dict[Label, int]:
    return {label: place for place, label in enumerate(dict.fromkeys(labels))}


def _order(label: str) -> tuple[float, str]:
    """Order labels as numbers where they are some."""
    try:
        return float(label), label
    except ValueError:
        return math.inf, label


def _means(entries: Sequence[Entry]) -> list[Entry]:
    """Put one mean in place of the scores of a method on a data set."""
    found = []
    for method in dict.fromkeys(entry.method for entry in entries):
        own = [entry for entry in entries if entry.method == method]
        known = [entry.score for entry in own if not entry.failure]
        first = replace(own[0], repeat="", fold="", seed="")
        found.append(replace(first, score=fmean(known), failure="") if known else first)
    return found


def _test_ratio(entries: Sequence[Entry], assumed: Assumed, folds: int) -> float:
    """Return n_test / n_train: as said, as counted, or 1 / (folds − 1)."""
    if assumed.name not in ("folds", "resampled"):
        return 0.0
    if assumed.test_share is not None:
        return assumed.test_share / (1 - assumed.test_share)
    counts: list[Mapping[str, int]] = [dict(entry.counts) for entry in entries]
    known = [one for one in counts if one.get("train_items") and one.get("test_items")]
    if known:
        tested = sum(one["test_items"] for one in known)
        return tested / sum(one["train_items"] for one in known)
    return 1 / max(1, folds - 1)


def _record(entry: Entry, pair: Pair, folds: int) -> Record:
    """Write a score down as the record of a final trial."""
    seed, fold, run = pair
    return Record(
        key=f"row {entry.row}",
        config={
            "norm": entry.method,
            "split": {"seed": seed, "folds": folds, "fold": fold},
            "stage": "final",
            "run": run,
            "metric": entry.metric,
            "learning_rate": None,
        },
        status="failed" if entry.failure else "done",
        reason=entry.failure,
        outcome={} if entry.failure else {"test_score": entry.score},
        counts=dict(entry.counts),
    )
