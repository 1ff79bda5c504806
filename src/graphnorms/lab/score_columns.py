"""Which column of a table is the method, the score, the fold, the seed and the data set."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from graphnorms.errors import unknown_name
from graphnorms.lab.phrases import first_of, listing
from graphnorms.lab.score_metric import GENERIC, bare, kind_of, last_part, plain
from graphnorms.lab.score_tables import Columns, ScoreTable

ROLES: Final = ("method", "score", "fold", "seed", "repeat", "dataset")
"""What a column can be, for those who name it."""

NAMES: Final = {
    "method": (
        *("method", "model", "norm", "algorithm", "algo", "approach", "architecture", "arch"),
        *("classifier", "estimator", "learner", "system", "gnn", "network", "layer_type", "conv"),
        *("treatment", "variant", "experiment", "config", "group", "model_name", "name"),
    ),
    "dataset": ("dataset", "data_set", "dataset_name", "data", "task", "benchmark", "datasets"),
    "fold": ("fold", "cv_fold", "fold_id", "fold_idx", "kfold", "split", "split_id", "split_idx"),
    "repeat": ("repeat", "rep", "repetition", "cv_repeat", "split_seed"),
    "seed": (
        *("seed", "random_seed", "random_state", "run", "run_id", "trial", "replicate"),
        *("iteration", "seed_id"),
    ),
    "metric": ("metric", "metric_name", "measure"),
    "failure": (),
}
"""Names of columns by role, the surest first; of `model.type` the parts count as well."""

FAILURES: Final = (
    *("oom", "out of memory", "failed", "fail", "failure", "crash", "crashed", "diverged"),
    *("timeout", "killed", "error", "killed"),
)
"""Entries in place of a score that say that there is none."""

_MISSING: Final = ("", "nan", "na", "n/a", "none", "null", "-", "–", "—", "missing", "inf", "-inf")
_PARTS: Final = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
_PLUS_MINUS: Final = re.compile(r"\s*(?:±|\+/-|\+-|\\pm|\$\\pm\$)\s*")
_REPEATED: Final = re.compile(r"(fold|split|seed|run|trial|rep|repeat)[ _#-]*(\d+)", re.IGNORECASE)
_ASIDE: Final = (
    "std",
    "sd",
    "sem",
    "stderr",
    "var",
    "ci",
    "low",
    "high",
    "min",
    "max",
    "n",
    "count",
)
"""Words of columns that hold the spread of a score, and not the score."""


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What the columns of a table are.

    Args:
        columns: Column by role.
        spread: In a wide table, what each of some columns holds: `method`, `fold`, `seed` or
            `dataset`; empty in a long one.
        wide: These columns, with the label of each.
        parts: Column that says of which part of the data a score is, and the part that counts.
        notes: What was chosen, one sentence each.
    """

    columns: Mapping[str, str]
    spread: str = ""
    wide: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str, tuple[str, ...]] | None = None
    notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """What the methods are in: a column, or several."""
        return self.columns.get("method", "") or listing(self.wide)

    @property
    def score(self) -> str:
        """What the scores are in."""
        return self.columns.get("score", "") or "score"

    def keeps(self, columns: Columns, row: int) -> bool:
        """Whether a row is of the part of the data that counts."""
        if self.parts is None:
            return True
        name, kept = self.parts
        return str(columns[name][row]).strip().lower() in kept

    def cells(self, columns: Columns, row: int) -> Iterator[tuple[str, str, dict[str, str]]]:
        """Yield the method, the column of the score and further labels, for each score of a row."""
        names = self.columns.get("method", "")
        several = names not in columns and "," in names
        parts = names.split(",") if several else [names] if names else []
        method = ", ".join(
            f"{part}={label_of(columns[part][row])}" if several else label_of(columns[part][row])
            for part in parts
        )
        if not self.spread:
            yield method, self.columns["score"], {}
            return
        for name, label in self.wide.items():
            if self.spread == "method":
                yield label, name, {}
            else:
                yield method, name, {self.spread: label}


def find_roles(table: ScoreTable, given: Mapping[str, str]) -> Roles:
    """Say what the columns of a table are: as given, as the format says, or as they look.

    Raises:
        ValueError: A column is not there, or nothing looks like the methods or the scores.
    """
    roles = dict(table.roles) | dict(given)
    for role, name in given.items():
        whole = name in table.columns or role != "method"
        for part in [name] if whole else name.split(","):
            if part not in table.columns:
                raise unknown_name(f"column (for the {role})", part, table.columns)
    notes: list[str] = []
    taken = {part for name in roles.values() for part in (name, *name.split(","))}
    parts = _parts_of(table, taken)
    if parts is not None:
        taken.add(parts[0])
        notes.append(f"Only the rows of the {parts[1][0]} part count (column {parts[0]!r}).")
    for role, names in NAMES.items():
        if role in roles:
            continue
        found = _by_name(table, names, taken)
        if role == "method":  # sooner one of texts than of numbers, which may be runs
            found = [name for name in found if len(set(_labels(table, name))) > 1] or found
            found.sort(key=lambda name: _numeric(table, name))
        if found:
            roles[role] = found[0]
            taken.add(found[0])
    if roles.get("fold") and plain(roles["fold"]).startswith("split"):
        roles["split"] = roles["fold"]
    if "method" not in roles and (text := _repeated_text(table, taken)):
        roles["method"] = text
        taken.add(text)
    numeric = [name for name in table.columns if name not in taken and _numeric(table, name)]
    if "method" in roles and not roles.keys() & {"fold", "seed", "repeat", "dataset"}:
        pairing = next((name for name in numeric if _pairs(table, roles["method"], name)), None)
        if pairing is not None and len(numeric) > 1:
            roles["seed"] = pairing
            numeric.remove(pairing)
            notes.append(
                f"Column {pairing!r} has the same numbers for every method, each once: scores with "
                "the same number belong together."
            )
    if "score" not in roles:
        roles, wide = _find_scores(table, roles, numeric, notes)
        if wide is not None:
            return _with(wide, roles, parts, notes)
    if "method" not in roles:
        roles["method"] = _method_by_content(table, set(roles.values()) | taken)
    _note_others(table, roles, given, notes)
    return Roles(columns=roles, parts=parts, notes=tuple(notes))


def _with(
    wide: tuple[str, dict[str, str]],
    roles: Mapping[str, str],
    parts: tuple[str, tuple[str, ...]] | None,
    notes: Sequence[str],
) -> Roles:
    return Roles(columns=roles, spread=wide[0], wide=wide[1], parts=parts, notes=tuple(notes))


def _find_scores(
    table: ScoreTable, roles: dict[str, str], numeric: Sequence[str], notes: list[str]
) -> tuple[dict[str, str], tuple[str, dict[str, str]] | None]:
    """Find the column of scores, or, of a wide table, what its columns are."""
    likely = [name for name in numeric if _likely_score(name)]
    if likely:
        ranked = sorted(likely, key=lambda name: (_unlikeliness(name), likely.index(name)))
        others = [name for name in ranked[1:] if _unlikeliness(name) < _TIME]
        if others:
            notes.append(f"The score is {ranked[0]!r}; --score takes another: {first_of(others)}.")
        return roles | {"score": ranked[0]}, None
    named = [
        name
        for name in table.columns
        if name not in roles.values()
        and _likely_score(name)
        and any(number_of(value)[0] is not None for value in table.columns[name])
    ]
    if named:  # with entries that are no numbers, which is said when they are read
        return roles | {"score": named[0]}, None
    if len(numeric) == 1:
        return roles | {"score": numeric[0]}, None
    if len(numeric) < 2:
        raise ValueError(
            f"no column looks like the scores; --score names it, of {listing(table.columns)}"
        )
    if "method" not in roles:
        names = {name: name for name in numeric}
        notes.append(f"One column per method: {first_of(numeric)}.")
        return roles, ("method", names)
    repeats = {name: _REPEATED.fullmatch(name.strip()) for name in numeric}
    if all(repeats.values()):
        kinds = {match.group(1).lower() for match in repeats.values() if match}
        role = "fold" if kinds & {"fold", "split"} else "seed"
        if kinds == {"split"}:
            roles = roles | {"split": numeric[0]}
        labels = {name: match.group(2) for name, match in repeats.items() if match}
        notes.append(f"One column per {role}: {first_of(numeric)}.")
        return roles, (role, labels)
    if "dataset" not in roles:
        notes.append(f"One column per data set: {first_of(numeric)}.")
        return roles, ("dataset", {name: name for name in numeric})
    raise ValueError(
        f"none of the columns {listing(numeric)} is called like a score; --score names it"
    )


_TIME: Final = 20


def _likely_score(name: str) -> bool:
    words = plain(name).split("_")
    if words[-1] in _ASIDE or "train" in words or name.startswith("_"):
        return False
    return plain(name) in GENERIC or bare(name) in GENERIC or kind_of(_last(name)) is not None


def _unlikeliness(name: str) -> int:
    """Rank columns that may be the score: test before all, then unsaid, then validation."""
    words, kind = plain(name).split("_"), kind_of(_last(name))
    part = 0 if "test" in words else 2 if {"val", "valid", "validation", "dev"} & {*words} else 1
    if kind is not None and kind[0] == "time":
        return _TIME
    return part + (10 if "loss" in words or "nll" in words else 0)


def _note_others(
    table: ScoreTable, roles: Mapping[str, str], given: Mapping[str, str], notes: list[str]
) -> None:
    """Say which other columns may be the methods."""
    if "method" in given or "method" in table.roles:
        return
    taken = set(roles.values())
    others = [
        name
        for name in _by_name(table, NAMES["method"], taken)
        if len(set(_labels(table, name))) > 1 and plain(_last(name)) != "name"
    ]
    if others:
        both = f"{roles['method']},{others[0]}"
        notes.append(
            f"The methods are those of {roles['method']!r}; {listing(map(repr, others))} varies as "
            f"well: --method {both} compares combinations."
        )


def _method_by_content(table: ScoreTable, taken: set[str]) -> str:
    """Take the one column of text that has the same few labels again and again."""
    most = max(3, len(table))
    texts = [name for name, of in _counted_texts(table, taken).items() if 1 < len(of) < most]
    if len(texts) == 1:
        return texts[0]
    raise ValueError(
        f"no column looks like the methods; --method names it, of {listing(table.columns)}"
    )


def _repeated_text(table: ScoreTable, taken: set[str]) -> str:
    """Return the one column of text of which every label stands in several rows, or ""."""
    counted = _counted_texts(table, taken).items()
    found = [name for name, of in counted if len(of) > 1 and min(of.values()) > 1]
    return found[0] if len(found) == 1 else ""


def _counted_texts(table: ScoreTable, taken: set[str]) -> dict[str, Counter[str]]:
    """Count the labels of each column of text that has no role yet."""
    names = (name for name in table.columns if name not in taken and not _numeric(table, name))
    return {name: Counter(_labels(table, name)) for name in names}


def _pairs(table: ScoreTable, method: str, name: str) -> bool:
    """Whether a column has the same whole numbers in the rows of every method, each once."""
    if method not in table.columns or _likely_score(name):
        return False
    numbers: dict[str, list[float]] = {}
    for label, value in zip(_labels(table, method), table.columns[name], strict=True):
        number = number_of(value)[0]
        if number is None or not number.is_integer():
            return False
        numbers.setdefault(label, []).append(number)
    each = [sorted(of) for of in numbers.values()]
    return len(each) > 1 and len({*each[0]}) == len(each[0]) > 1 and each == each[:1] * len(each)


def _by_name(table: ScoreTable, names: Sequence[str], taken: set[str]) -> list[str]:
    """Return the columns with one of some names, the surest first."""
    found = []
    for wanted in names:
        found += [
            name
            for name in table.columns
            if name not in taken and name not in found and wanted in (plain(name), _last(name))
        ]
        found += [
            name
            for name in table.columns
            if name not in taken and name not in found and _owner(name) == wanted
        ]
    return found


def _last(name: str) -> str:
    """Return the last part of a dotted name: `type` of `model.type`."""
    return plain(last_part(name))


def _owner(name: str) -> str:
    """Return what `type` or `name` is of: `model` of `model.type`."""
    parts = re.split(r"[./]", name)
    return plain(parts[-2]) if len(parts) > 1 and plain(parts[-1]) in ("type", "name") else ""


def _parts_of(table: ScoreTable, taken: set[str]) -> tuple[str, tuple[str, ...]] | None:
    """Find the column that says of which part of the data a score is: test, else validation."""
    for name in table.columns:
        labels = {label.lower() for label in _labels(table, name)}
        if name in taken or not labels or not labels <= {*_PARTS} or _numeric(table, name):
            continue
        for kept in (("test", "testing"), ("validation", "val", "valid", "dev")):
            if labels & {*kept}:
                return name, kept
    return None


def _labels(table: ScoreTable, name: str) -> list[str]:
    return [label_of(value) for value in table.columns[name]]


def _numeric(table: ScoreTable, name: str) -> bool:
    """Whether a column has numbers, and nothing else but missing entries and failures."""
    values = table.columns[name]
    if any(isinstance(value, bool) for value in values):
        return False
    found = [
        number_of(value)[0]
        for value in values
        if str(value).strip().lower() not in (*FAILURES, *_MISSING)
    ]
    return bool(found) and all(number is not None for number in found)


def number_of(value: Any) -> tuple[float | None, bool]:
    """Return a number, NaN where an entry is missing, None where it is something else.

    Also whether it is the mean of an entry such as `85.1 ± 2.3`.
    """
    if value is None:
        return math.nan, False
    if isinstance(value, bool):
        return None, False
    if isinstance(value, int | float):
        return (float(value) if math.isfinite(value) else math.nan), False
    text = str(value).strip().strip("$").replace("−", "-")
    if text.lower() in (*_MISSING, "<na>"):
        return math.nan, False
    first, *rest = _PLUS_MINUS.split(text)
    try:
        number = float(first.rstrip("% "))
    except ValueError:
        return None, False
    return (number if math.isfinite(number) else math.nan), bool(rest)


def label_of(value: Any) -> str:
    """Return an entry as a label: 3.0, as frames write 3 beside missing ones, is `3`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value).strip()
    if re.fullmatch(r"-?\d+\.0", text):
        return text[:-2]
    return "" if text.lower() in ("nan", "<na>") else text
