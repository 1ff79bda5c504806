"""Records as tables: pandas frames and Parquet files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.files import replacing
from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    import pandas as pd

    from graphnorms.training import Record


def _columns(*columns: str) -> dict[str, str]:
    """Return the types of columns, given texts of a type and the names of columns."""
    parts = [text.split() for text in columns]
    return {name: kind for kind, *names in parts for name in names}


_TRIAL: Final = _columns(
    "string key dataset norm stage treatment",
    "Int64 fold run",
    "Float64 learning_rate",
    "string status reason metric",
    "Int64 epoch",
    "Float64 validation_score validation_loss test_score test_loss",
    "Float64 seconds train_seconds evaluation_seconds",
    "Int64 parameters train_items validation_items test_items steps_per_epoch epochs batch_size",
    "string schedule",
    "Float64 weight_decay",
    "Int64 seed",
    "string device dtype fingerprint graphnorms_version torch_version",
)
_EPOCH: Final = _columns(
    "string key norm stage treatment",
    "Int64 fold run",
    "Float64 learning_rate",
    "string status",
    "Int64 epoch",
    "Float64 train_loss train_score validation_loss validation_score step_size",
    "Float64 train_seconds evaluation_seconds",
)


def records_to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row per trial: what was tried, how it ended, its scores, and what it took.

    Columns are flat: first the trial (`key`, `dataset`, `norm`, `stage`, `treatment`: the norm with
    the varied options, `fold`, `run`, `learning_rate`, `status`, `reason`, `metric`), the outcome
    at the chosen epoch (`epoch`, `validation_score`, `validation_loss`, `test_score`, `test_loss`),
    then times in seconds,
    counts and the other settings, at last `split_…`, `model_…`, `searched_…` and `environment_…`,
    as the records have them,
    every metric of the task as `validation_…` and `test_…`, and of several
    questions or numbers `validation_score_…` and `test_score_…`.
    All columns exist, with their types, also without records. Unknown values are missing.

    Raises:
        ImportError: pandas is not installed.
    """
    return _frame(map(_row, records), _TRIAL)


def histories_to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row per trial and epoch, from 1: losses, scores, and seconds.

    `learning_rate` is that of the config, as in `records_to_frame`; `step_size` is what the
    schedule made of it in the epoch.

    Raises:
        ImportError: pandas is not installed.
    """
    return _frame((row for record in records for row in _epochs(record)), _EPOCH)


def write_parquet(path: Path, records: Iterable[Record], *, history: bool = False) -> None:
    """Write `records_to_frame` as a Parquet file, in one step.

    Args:
        path: The file.
        records: The trials.
        history: `histories_to_frame` instead.

    Raises:
        ImportError: pandas or pyarrow is not installed.
        OSError: It cannot be written.
    """
    frame = histories_to_frame(records) if history else records_to_frame(records)
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ImportError(
            "a Parquet file needs pyarrow: pip install 'graphnorms[export]'"
        ) from None
    with replacing(path) as temporary:
        frame.to_parquet(temporary, engine="pyarrow", index=False)


def _frame(rows: Iterable[dict[str, Any]], types: dict[str, str]) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("a frame needs pandas: pip install 'graphnorms[export]'") from None
    table = list(rows)
    names = dict.fromkeys([*types, *sorted({name for row in table for name in row} - {*types})])
    columns = {}
    for name in names:
        values = [row.get(name) for row in table]
        kind = types.get(name) or _type_of(values)
        if kind == "string":
            values = [None if value is None else str(value) for value in values]
        columns[name] = pd.array(values, dtype=kind)
    return pd.DataFrame(columns)


def _row(record: Record) -> dict[str, Any]:
    config, timing = dict(record.config), record.timing
    split = config.pop("split", None) or {}
    config.pop("varied", None)
    searched = config.pop("searched", None) or {}
    row = {
        **config,
        **record.outcome,
        **record.counts,
        "key": record.key,
        "treatment": treatment_of(record.config),
        "fold": split.get("fold"),
        "status": record.status,
        "reason": record.reason,
        "seconds": timing.get("total"),
        "train_seconds": _sum(timing.get("train")),
        "evaluation_seconds": _sum(timing.get("evaluation")),
    }
    row.pop("model", None)
    for part, scores in record.scores.items():
        row |= {f"{part}_{name}": score for name, score in scores.items()}
    for part, errors in record.target_scores.items():
        row |= {f"{part}_score_{name}": error for name, error in errors.items()}
    parts = {
        "split": split,
        "model": config.get("model") or {},
        "searched": searched,
        "environment": record.environment,
    }
    for part, values in parts.items():
        row |= {f"{part}_{name}": value for name, value in values.items()}
    return {name: _plain(value) for name, value in row.items()}


def _epochs(record: Record) -> Iterable[dict[str, Any]]:
    config, history = record.config, dict(record.history)
    trial = {
        "key": record.key,
        "norm": config.get("norm"),
        "stage": config.get("stage"),
        "treatment": treatment_of(config),
        "fold": (config.get("split") or {}).get("fold"),
        "run": config.get("run"),
        "learning_rate": config.get("learning_rate"),
        "status": record.status,
    }
    columns = {
        **{name: values for name, values in history.items() if name != "learning_rate"},
        "step_size": history.get("learning_rate", []),
        "train_seconds": record.timing.get("train") or [],
        "evaluation_seconds": record.timing.get("evaluation") or [],
    }
    for epoch in range(max(map(len, history.values()), default=0)):
        values = {name: column[epoch] for name, column in columns.items() if epoch < len(column)}
        yield {**trial, "epoch": epoch + 1, **values}


def _plain(value: Any) -> Any:
    """Return a value that fits into one cell; lists and mappings become JSON."""
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value


def _sum(values: list[float] | None) -> float | None:
    return None if values is None else sum(values)


_TYPES: Final[tuple[tuple[Callable[[Any], bool], str], ...]] = (
    (lambda value: isinstance(value, bool), "boolean"),
    (lambda value: isinstance(value, int) and not isinstance(value, bool), "Int64"),
    (lambda value: isinstance(value, int | float) and not isinstance(value, bool), "Float64"),
    (lambda value: isinstance(value, str), "string"),
)


def _type_of(values: list[Any]) -> str:
    """Return the narrowest type for all values; text if no other fits."""
    known = [value for value in values if value is not None]
    for fits, name in _TYPES:
        if all(map(fits, known)):
            return name
    return "string"
