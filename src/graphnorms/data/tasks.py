"""Tasks, and the conversion of raw targets: one policy for every reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphnorms.data.feature_columns import as_float32
from graphnorms.data.task_kinds import FORCES, KINDS, LEVELS
from graphnorms.data.text_format import as_name
from graphnorms.errors import DatasetError, unknown_name
from graphnorms.kernels.point import widest_float

TaskKind = Literal["auto", "classification", "binary", "regression"]
ClassOrder = Literal["ascending", "first appearance"]

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A prediction task for graphs or nodes, the *items* of the task.

    | kind | target of an item | results per item |
    |---|---|---|
    | `"classification"` | a class, `(items,)` int64 | a logit per class |
    | `"binary"` | questions of yes or no, `(items, questions)` float32 | a logit per question |
    | `"regression"` | numbers, `(items, numbers)` float32 or float64 | a number each |
    | `"forces"` | the energy, `(graphs, 1)` float64 | an energy |

    A missing class is -1; a missing answer (1 for yes, 0 for no) or number is NaN. The task
    `"forces"` has a force on every atom, too, in `GraphSet.atoms`; a model's is the negative
    gradient of its energy.

    Args:
        kind: One of the above.
        level: `"graph"` or `"node"`.
        targets: Names of the classes, questions or numbers.
        unit: Unit of the numbers, if known.

    Raises:
        ValueError: A name is unknown, or there are no targets.
    """

    kind: str
    level: str = "graph"
    targets: tuple[str, ...]
    unit: str = ""

    def __post_init__(self) -> None:
        for what, given, known in (
            ("task", self.kind, (*KINDS, FORCES)),
            ("level", self.level, LEVELS),
        ):
            if given not in known:
                raise unknown_name(what, given, known)
        if not self.targets:
            raise ValueError(f"a {self.kind} task has no targets, expected one or more")

    @property
    def outputs(self) -> int:
        """Outputs of a model per item."""
        return len(self.targets)

    def __str__(self) -> str:
        count = len(self.targets)
        if self.kind == "classification":
            return f"{self.level} classification, {count} classes"
        if self.kind == "binary":
            few = "yes or no" if count == 1 else f"{count} questions of yes or no"
            return f"{self.level} classification, {few}"
        if self.kind == FORCES:
            return f"energies in {self.unit} and forces in {self.unit}/Å"
        number = "a number" if count == 1 else f"{count} numbers"
        return f"{self.level} regression, {number}{f' in {self.unit}' if self.unit else ''}"


def targets_on(device: torch.device, y: Tensor) -> Tensor:
    """Return targets on a device, rounded to float32 if it has no float64."""
    return y.to(device, widest_float(device) if y.dtype == torch.float64 else y.dtype)


def make_targets(
    kind: TaskKind,
    *,
    y: Array,
    level: str,
    names: tuple[str, ...] = (),
    unknown: int | None = None,
    classes: ClassOrder = "ascending",
    notes: list[str] | None = None,
) -> tuple[Tensor, Task]:
    """Convert raw targets to the tensor that a `Task` describes, and make the task.

    - `"classification"`: integers and texts are classes. Without `names`, every occurring value is
      a class; an empty text is a missing class.
    - `"binary"`: 0 is no and 1 is yes; if both occur, -1 is a missing answer. For two other values
      in a single column, the lower is no.
    - `"regression"`: unchanged numbers: float32 if all are exact in it, else float64, so that
      energies of 1e8 keep their differences.
    - `"auto"`: integers and texts are classes, or answers if there are several columns of only 0
      and 1; floats are answers if they are only 0, 1 and NaN, else numbers. (A single column of the
      floats 0 and 1 is a question, not two classes: it is scored by ROC-AUC.) Several columns, or
      floats, of only -1, 0 and 1 are ambiguous, and refused.

    Args:
        kind: One of the above.
        y: The raw targets, numbers of any type or texts, `(items,)` or `(items, targets)`; NaN if
            missing.
        level: The level of the task, `"graph"` or `"node"`.
        names: Names of the classes (from 0), questions or numbers, if known.
        unknown: The integer that marks a missing class, if any.
        classes: The order in which classes without names are numbered.
        notes: Receives remarks for the user on how `y` was read.

    Raises:
        DatasetError: The targets do not fit the kind or the names, are not finite, or are
            ambiguous.
    """
    notes = [] if notes is None else notes
    if y.dtype.kind == "b":
        y = y.astype(np.int64)
    if not y.size:
        raise DatasetError("y holds no targets")
    if kind == "auto":
        kind = _choose(y, unknown)
        if kind == "classification" and unknown is None and _minus_one_beside_zero_and_one(y):
            notes.append("-1 is a class of its own; task binary takes it for a missing answer")
    if y.dtype.kind in "US" and kind != "classification":
        raise DatasetError(f"y holds texts, which are classes, not {kind}")
    if kind == "classification":
        column, known = _class_column(y, unknown)
        values, targets = _classes(column, known, names, classes)
        return torch.from_numpy(values), Task(kind=kind, level=level, targets=targets)
    numbers: Array = as_float32(
        y.reshape(len(y), -1),
        lambda row: f"y of {level} {row}",
        nan_allowed=True,
    )
    if kind == "binary":
        missing = -1 if _minus_one_beside_zero_and_one(y) else None
        if y.dtype.kind in "iu":
            missing = unknown if missing is None else missing
        if missing is not None and (numbers == missing).any():
            notes.append(f"{missing} says that an answer is missing")
            numbers[numbers == missing] = np.nan
        numbers = _answers(numbers)
    else:
        wide = y.astype(np.float64).reshape(numbers.shape)
        if not np.array_equal(numbers, wide, equal_nan=True):
            numbers = wide
    width = numbers.shape[1]
    if names and len(names) != width:
        raise DatasetError(
            f"{len(names)} names of targets, expected {width}, one for each column of y"
        )
    targets = names or tuple(f"target {column + 1}" for column in range(width))
    targets = targets if names or width > 1 else ("target",)
    task = Task(kind=kind, level=level, targets=targets)
    return torch.from_numpy(np.ascontiguousarray(numbers)), task


def _choose(y: Array, unknown: int | None) -> TaskKind:
    if y.dtype.kind in "US":
        return "classification"
    several = y.ndim == 2 and y.shape[1] > 1
    if y.dtype.kind in "iu" and not several:
        return "classification"
    if unknown is None and _minus_one_beside_zero_and_one(y):
        raise DatasetError(
            "y holds only -1, 0 and 1: ask for task binary, where -1 says that "
            "an answer is missing, or regression, where it is a number; where -1 means no and 0 "
            "that the answer is missing, give 0, 1 and NaN"
        )
    yes_or_no = (y == 0) | (y == 1) | (y != y)
    if unknown is not None and y.dtype.kind in "iu":
        yes_or_no |= y == unknown
    return "binary" if yes_or_no.all() else "regression"


def _minus_one_beside_zero_and_one(y: Array) -> bool:
    """Whether the values are -1, 0 and 1, so that -1 may mark a missing answer."""
    if y.dtype.kind not in "if":
        return False
    each = [y == value for value in (-1, 0, 1)]
    return all(found.any() for found in each) and bool((sum(each) + (y != y)).all())


def _class_column(y: Array, unknown: int | None) -> tuple[Array, Array]:
    """Return the raw class of each item, and whether it is known, `(items,)` each."""
    if y.ndim == 2 and y.shape[1] != 1:
        raise DatasetError(
            f"{y.shape[1]} targets each, expected one class; ask for task binary or regression"
        )
    y = y.reshape(-1)
    if y.dtype.kind in "US":
        return y, y != y.dtype.type()
    if y.dtype.kind in "iu":
        return y, np.ones(len(y), dtype=bool) if unknown is None else y != unknown
    known = ~np.isnan(y)
    column = np.where(known, y, 0)
    wrong = column[~np.isfinite(column) | (column != np.rint(column))]
    if len(wrong):
        raise DatasetError(
            f"y holds {wrong[0]:g}, expected classes, which are integers; ask for task regression"
        )
    return column, known


def _classes(
    column: Array, known: Array, names: tuple[str, ...], order: ClassOrder
) -> tuple[Array, tuple[str, ...]]:
    """Return the class number of each item, -1 if missing, and the names of the classes."""
    if not known.any():
        raise DatasetError("the class of no item is known")
    if names and column.dtype.kind in "US":
        place = {text: number for number, text in enumerate(names)}
        column = np.array([place.get(_class_name(text), len(names)) for text in column])
    if names:
        wrong = column[known & ((column < 0) | (column >= len(names)))]
        if len(wrong):
            raise DatasetError(
                f"y holds class {wrong[0]}, expected 0 … {len(names) - 1}, for "
                f"there are {len(names)} class_names, or -1"
            )
        return np.where(known, column, 0).astype(np.int64) - ~known, names
    kinds, first, number = np.unique(column[known], return_index=True, return_inverse=True)
    if order == "first appearance":
        rank = np.argsort(first)  # (classes,), the class at each position
        kinds, number = kinds[rank], np.argsort(rank)[number]
    values = np.full(len(column), -1, dtype=np.int64)
    values[known] = number
    return values, tuple(_class_name(kind) for kind in kinds)


def _class_name(kind: Any) -> str:
    """Return the name of a class: its text, or its exact integer."""
    if isinstance(kind, bytes):
        return as_name(kind.decode("utf-8", errors="replace"))
    return as_name(kind) if isinstance(kind, str) else str(int(kind))


def _answers(numbers: Array) -> Array:
    values = np.unique(numbers[~np.isnan(numbers)])
    if np.isin(values, (0, 1)).all():
        return numbers
    if numbers.shape[1] == 1 and len(values) == 2:
        return np.where(np.isnan(numbers), numbers, numbers == values[1]).astype(np.float32)
    other = values[(values != 0) & (values != 1)][0]
    raise DatasetError(
        f"y holds {other:g}, expected answers: 0, 1 or NaN; ask for task "
        "classification or regression"
    )
