"""What is to be predicted: one policy for every reader."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.task import Task
from graphnorms.errors import DatasetError, unknown_name

TaskKind = Literal["auto", "classification", "binary", "regression"]
ClassOrder = Literal["ascending", "first appearance"]

Array = NDArray[Any]


def make_targets(
    kind: TaskKind,
    *,
    name: str,
    y: Array,
    level: str,
    names: tuple[str, ...] = (),
    unit: str = "",
    unknown: int | None = None,
    classes: ClassOrder = "ascending",
) -> tuple[Tensor, Task]:
    """Make the targets as a `Task` of some kind has them, and the task.

    - `"classification"`: integers are classes. Without `names` every value that occurs is one.
    - `"binary"`: 0 is no and 1 is yes; of another two values in a single column the lower is no.
    - `"regression"`: numbers as they are: float32 where that holds all of them exactly, else
      float64, so that energies of 1e8 keep their differences.
    - `"auto"`: integers are classes, or answers where there are several columns of only 0 and 1;
      floats are answers where they hold only 0, 1 and NaN, else numbers. (A single column of the
      floats 0 and 1 is a question, not two classes: it is scored by ROC-AUC.)

    Args:
        kind: One of the above.
        name: The data set, for the messages.
        y: The targets as the file has them, numbers of any type, `(items,)` or
            `(items, targets)`; NaN where one is missing.
        level: What the items are, `"graph"` or `"node"`.
        names: What the classes, from 0, or the questions or numbers are called, if known.
        unit: Unit of the numbers, if known.
        unknown: The integer that says that the class is not known, if one does.
        classes: In which order classes without names are numbered.

    Raises:
        ValueError: The kind is unknown.
        DatasetError: The targets do not fit the kind or the names, or are not finite.
    """
    check_task(kind)
    y = y.astype(np.int64) if y.dtype.kind in "biu" else y
    if not y.size:
        raise DatasetError(f"data set {name!r}: y holds no targets")
    if kind == "auto":
        kind = _choose(y)
    if kind == "classification":
        column, known = _class_column(name, y, unknown)
        values, targets = _classes(name, column, known, names, classes)
        return torch.from_numpy(values), Task(kind=kind, level=level, targets=targets)
    with np.errstate(over="ignore"):  # beyond float32 is not finite, see below
        numbers: Array = y.astype(np.float32).reshape(len(y), -1)  # (items, targets)
    if kind == "binary":
        if unknown is not None and y.dtype == np.int64:
            numbers[y.reshape(numbers.shape) == unknown] = np.nan
        numbers = _answers(name, numbers)
    elif np.isinf(numbers).any():
        raise DatasetError(f"data set {name!r}: y holds a number that is not finite in float32")
    else:
        wide = y.astype(np.float64).reshape(numbers.shape)
        if not np.array_equal(numbers, wide, equal_nan=True):
            numbers = wide
    width = numbers.shape[1]
    if names and len(names) != width:
        raise DatasetError(
            f"data set {name!r}: {len(names)} names of targets, expected {width}, one for each "
            "column of y"
        )
    targets = names or tuple(f"target {column + 1}" for column in range(width))
    task = Task(
        kind=kind, level=level, targets=targets if names or width > 1 else ("target",),
        unit=unit if kind == "regression" else "",
    )  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(numbers)), task


def check_task(kind: str) -> None:
    """Raise the error for a kind of task that does not exist."""
    if kind not in get_args(TaskKind):
        raise unknown_name("task", kind, get_args(TaskKind))


def _choose(y: Array) -> TaskKind:
    several = y.ndim == 2 and y.shape[1] > 1
    yes_or_no = bool(((y == 0) | (y == 1) | (y != y)).all())
    if y.dtype == np.int64:
        return "classification" if not several else "binary" if yes_or_no else "regression"
    return "binary" if yes_or_no else "regression"


def _class_column(name: str, y: Array, unknown: int | None) -> tuple[Array, Array]:
    """The class of each item as an integer, and whether it is known, `(items,)` both."""
    if y.ndim == 2 and y.shape[1] != 1:
        raise DatasetError(
            f"data set {name!r}: {y.shape[1]} targets each, expected one class; ask for task "
            "binary or regression"
        )
    y = y.reshape(-1)
    if y.dtype == np.int64:
        return y, np.ones(len(y), dtype=bool) if unknown is None else y != unknown
    known = ~np.isnan(y)
    column = np.where(known, y, 0)
    wrong = column[column != np.rint(column)]
    if len(wrong):
        raise DatasetError(
            f"data set {name!r}: y holds {wrong[0]:g}, expected classes, which are integers; ask "
            "for task regression"
        )
    return column.astype(np.int64), known


def _classes(
    name: str, column: Array, known: Array, names: tuple[str, ...], order: ClassOrder
) -> tuple[Array, tuple[str, ...]]:
    """The number of each item's class, -1 where it is not known, and what classes are called."""
    if not known.any():
        raise DatasetError(f"data set {name!r}: the class of no item is known")
    if names:
        wrong = column[known & ((column < 0) | (column >= len(names)))]
        if len(wrong):
            raise DatasetError(
                f"data set {name!r}: y holds class {wrong[0]}, expected 0 … {len(names) - 1}, for "
                f"there are {len(names)} class_names, or -1"
            )
        return np.where(known, column, -1), names
    kinds, first, number = np.unique(column[known], return_index=True, return_inverse=True)
    if order == "first appearance":
        rank = np.argsort(first)  # (classes,), which class comes at each place
        kinds, number = kinds[rank], np.argsort(rank)[number]
    values = np.full(len(column), -1, dtype=np.int64)
    values[known] = number
    return values, tuple(str(kind) for kind in kinds)


def _answers(name: str, numbers: Array) -> Array:
    values = np.unique(numbers[~np.isnan(numbers)])
    if np.isin(values, (0, 1)).all():
        return numbers
    if numbers.shape[1] == 1 and len(values) == 2:
        return np.where(np.isnan(numbers), numbers, numbers == values[1]).astype(np.float32)
    other = values[(values != 0) & (values != 1)][0]
    raise DatasetError(
        f"data set {name!r}: y holds {other:g}, expected answers: 0, 1 or NaN; ask for task "
        "classification or regression"
    )
