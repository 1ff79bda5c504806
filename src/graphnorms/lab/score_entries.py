"""A table of scores, long or wide, as one entry per score: of which method, repeat and data."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from graphnorms.lab.phrases import MOST_NAMED, first_of, listing, several
from graphnorms.lab.score_columns import FAILURES, Roles, find_roles, label_of, number_of
from graphnorms.lab.score_metric import ScoreMetric, metric_of
from graphnorms.lab.score_tables import ScoreTable

MOST_METHODS: Final = 50
"""In a table with more, rows would be compared with each other."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One score.

    Args:
        method, dataset: Whose it is, and on which data; the latter may be empty.
        repeat, fold, seed: What it was repeated over, as the table writes it; empty: not said.
        score: In the unit of the table; NaN where there is none.
        failure: Why there is none.
        metric: What the score is, if a column says.
        row: Number of its row, from 0.
        counts: Items trained on and tested, if known.
    """

    method: str
    dataset: str = ""
    repeat: str = ""
    fold: str = ""
    seed: str = ""
    score: float = math.nan
    failure: str = ""
    metric: str = ""
    row: int = 0
    counts: tuple[tuple[str, int], ...] = ()

    @property
    def place(self) -> tuple[str, str, str]:
        """What pairs it with the entries of other methods."""
        return self.repeat, self.fold, self.seed

    @property
    def is_empty(self) -> bool:
        """Whether it is a cell of a wide table where nothing was tried."""
        return math.isnan(self.score) and not self.failure


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The scores of a table, and how it was read.

    Args:
        entries: One per score, failed ones among them.
        metrics: What the scores are, by data set.
        roles: The columns and what they were taken for.
        by_row: Whether nothing but the order of rows says which scores belong together.
        notes: What was chosen and left out, one sentence each.
    """

    entries: tuple[Entry, ...]
    metrics: Mapping[str, ScoreMetric]
    roles: Roles
    by_row: bool
    notes: tuple[str, ...]

    @property
    def methods(self) -> list[str]:
        """The methods, in the order of their first appearance."""
        return list(dict.fromkeys(entry.method for entry in self.entries))

    @property
    def datasets(self) -> list[str]:
        """The data sets, in the order of their first appearance."""
        return list(dict.fromkeys(entry.dataset for entry in self.entries))


def read_entries(
    table: ScoreTable, given: Mapping[str, str], higher: bool | None = None
) -> Reading:
    """Find out what the columns of a table are, and read its scores.

    Args:
        table: The table.
        given: Columns by role, where somebody said so; the others are guessed.
        higher: Whether higher scores are better, if somebody said so.

    Raises:
        ValueError: A column is missing or cannot be guessed, scores are no numbers, a score is
            there twice, or there are fewer than two methods.
    """
    roles = find_roles(table, given)
    entries, notes = _entries(table, roles)
    entries, doubled = _without_doubles(entries, table)
    by_row = not any(any(entry.place) for entry in entries)
    if by_row:
        entries = _numbered(entries)
    # Only now: what is paired by the order of rows keeps its number.
    empty = sum(entry.is_empty for entry in entries)
    entries = [entry for entry in entries if not entry.is_empty]
    if empty:
        doubled.append(f"{several(empty, 'empty cell')}: no score, and no failed trial.")
    methods = list(dict.fromkeys(entry.method for entry in entries))
    known = [entry.score for entry in entries if not math.isnan(entry.score)]
    if not known:
        raise ValueError(f"column {roles.score!r} has no number, so there is nothing to judge")
    if len(methods) < 2:
        mean = sum(known) / len(known)
        raise ValueError(
            f"the table has one method, {methods[0]!r}, with {several(len(known), 'score')} (mean "
            f"{mean:.4g}); a judgement takes two"
        )
    if len(methods) > MOST_METHODS:
        raise ValueError(
            f"column {roles.method!r} names {len(methods)} methods, expected {MOST_METHODS} at "
            "most; name the column of the methods with --method"
        )
    metrics = _metrics(entries, roles, higher)
    entries = [
        replace(entry, score=entry.score / 100) if metrics[entry.dataset].percent else entry
        for entry in entries
    ]
    notes = [*table.notes, *roles.notes, *notes, *doubled, *_failures(entries, table)]
    if len(entries) == len(methods):
        notes.append(
            "One score per method: nothing can be tested, and the order may be chance; repeat it "
            "over seeds, folds or data sets."
        )
    if by_row and len(entries) > len({(e.method, e.dataset) for e in entries}):
        notes.append(
            "No column says which scores belong together: they are paired in the order of their "
            "rows, which is wrong if rows are sorted by score."
        )
    return Reading(
        entries=tuple(entries),
        metrics=metrics,
        roles=roles,
        by_row=by_row,
        notes=tuple(notes),
    )


def _entries(table: ScoreTable, roles: Roles) -> tuple[list[Entry], list[str]]:
    """Read one entry per score."""
    columns, found, means = table.columns, [], 0
    wrong: list[tuple[int, Any]] = []
    for row in range(len(table)):
        if not roles.keeps(columns, row):
            continue
        shared = {
            role: label_of(columns[name][row])
            for role, name in roles.columns.items()
            if role not in ("method", "score") and name in columns
        }
        counts = tuple(
            (name, int(value))
            for name in ("train_items", "test_items")
            if name in columns and not math.isnan(value := _number(columns[name][row]))
        )
        for method, name, more in roles.cells(columns, row):
            value = columns[name][row]
            number, is_mean = number_of(value)
            failure = shared.get("failure", "")
            text = str(value).strip().lower()
            if number is None and text in FAILURES:
                number, failure = math.nan, failure or text
            if number is None:
                wrong.append((row, value))
                continue
            means += is_mean
            if not method:
                raise ValueError(f"{table.places(row)} has no method (column {roles.method!r})")
            labels = {
                role: text
                for role, text in (shared | more).items()
                if role in ("dataset", "repeat", "fold", "seed", "metric")
            }
            found.append(
                Entry(
                    method=method,
                    score=math.nan if failure else number,
                    failure=failure or ("no score" * math.isnan(number) * (not roles.spread)),
                    row=row,
                    counts=counts,
                    **labels,
                )
            )
    if wrong:
        row, value = wrong[0]
        entries = (
            "1 entry that is no number"
            if len(wrong) == 1
            else f"{len(wrong)} entries that are no numbers"
        )
        raise ValueError(
            f"column {roles.score!r} has {entries}, e.g. {str(value)!r:.60} in "
            f"{table.places(row)}; write nan for a trial that failed, or name another column with "
            "--score"
        )
    notes = []
    if means:
        notes.append(
            f"{several(means, 'entry') if means == 1 else f'{means} entries'} of the form mean ± "
            "deviation: the means are taken as scores, as single values are not there."
        )
    return found, notes


def _number(value: Any) -> float:
    number, _ = number_of(value)
    return math.nan if number is None else number


def _without_doubles(entries: Sequence[Entry], table: ScoreTable) -> tuple[list[Entry], list[str]]:
    """Leave out rows that are there twice; raise where two differ that are to be one."""
    first: dict[tuple[str, ...], Entry] = {}
    kept, same = [], 0
    labelled = any(any(entry.place) for entry in entries)
    for entry in entries:
        key = (entry.method, entry.dataset, *entry.place)
        earlier = first.setdefault(key, entry)
        if earlier is entry or not labelled:
            kept.append(entry)
            continue
        if earlier.metric != entry.metric:
            raise ValueError(
                f"{_about(entry)} is scored by {earlier.metric} and by {entry.metric}; keep the "
                "rows of one of them"
            )
        differing = [
            name
            for name, values in table.columns.items()
            if label_of(values[earlier.row]) != label_of(values[entry.row])
        ]
        if not differing:
            same += 1
            continue
        which = listing(map(repr, differing[:MOST_NAMED]))
        raise ValueError(
            f"{_about(entry)} is there twice ({table.places(earlier.row, entry.row)}, which differ "
            f"in {which}); keep one of them, or name the column that tells them apart by --fold, "
            "--seed, --repeat or --method"
        )
    return kept, [f"Left out, as exact repeats: {several(same, 'row')}."] if same else []


def _about(entry: Entry) -> str:
    """Name a score in a message: `'GCN' on MUTAG, fold 3, seed 1`."""
    places = zip(("repeat", "fold", "seed"), entry.place, strict=True)
    parts = [f"{role} {value}" for role, value in places if value]
    on = f" on {entry.dataset}" if entry.dataset else ""
    return ", ".join([f"method {entry.method!r}{on}", *parts])


def _numbered(entries: Iterable[Entry]) -> list[Entry]:
    """Give the scores of a method on a data set numbers, in the order of their rows."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for entry in entries:
        key = entry.method, entry.dataset
        found.append(replace(entry, seed=str(seen[key])))
        seen[key] += 1
    return found


def _metrics(entries: Sequence[Entry], roles: Roles, higher: bool | None) -> dict[str, ScoreMetric]:
    """Say what the scores of each data set are; one metric is in one unit in the whole table."""
    names: dict[str, str] = {}
    values: dict[str, list[float]] = {}
    for entry in entries:
        name = entry.metric or roles.score
        if names.setdefault(entry.dataset, name) != name:
            raise ValueError(
                f"{entry.dataset or 'the table'} has scores of {names[entry.dataset]} and {name}; "
                "keep the rows of one of them"
            )
        if not math.isnan(entry.score):
            values.setdefault(name, []).append(entry.score)
    found = {name: metric_of(name, values.get(name, []), higher) for name in values}
    if any(metric.percent for metric in found.values()):
        _refuse_mixed(entries)
    missing = [dataset for dataset, name in names.items() if name not in found]
    if missing:
        raise ValueError(f"{missing[0] or 'the table'} has no score at all")
    return {dataset: found[name] for dataset, name in names.items()}


def _refuse_mixed(entries: Iterable[Entry]) -> None:
    """Raise a `ValueError` if some methods have fractions, and others percentages."""
    scores: dict[tuple[str, str], list[float]] = {}
    for entry in entries:
        if not math.isnan(entry.score):
            scores.setdefault((entry.dataset, entry.method), []).append(entry.score)
    fractions = [method for (_, method), of in scores.items() if _LEAST < min(of) <= max(of) <= 1]
    percent = [method for (_, method), of in scores.items() if min(of) > 1]
    if fractions and percent:
        few, many = (first_of(map(repr, dict.fromkeys(each))) for each in (fractions, percent))
        raise ValueError(
            f"the scores of {few} are fractions, and those of {many} percentages; write all alike"
        )


_LEAST: Final = 0.1
"""What is meant for a percentage is hardly between this and 1."""


def _failures(entries: Iterable[Entry], table: ScoreTable) -> list[str]:
    """Name the scores that are missing."""
    failed = [entry for entry in entries if entry.failure]
    if not failed:
        return []
    reasons = Counter(entry.failure for entry in failed)
    why = listing(f"{count} {reason}" for reason, count in reasons.most_common(MOST_NAMED))
    rows = [entry.row for entry in failed[:MOST_NAMED]]
    more = f" and {len(failed) - len(rows)} more" if len(failed) > len(rows) else ""
    return [f"Rows without a score count as failed trials: {why} ({table.places(*rows)}{more})."]
