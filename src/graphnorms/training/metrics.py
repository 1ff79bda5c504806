"""The metrics that score trials: their names, directions and titles. Known without torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from graphnorms.data.task_kinds import ENERGY_UNIT, FORCE_UNIT, FORCES
from graphnorms.errors import unknown_name

if TYPE_CHECKING:
    from graphnorms.data import Task


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of predictions.

    Args:
        name: Its name in options and records.
        title: Its name in texts, e.g. "accuracy".
        higher_is_better: Whether higher is better.
        fraction: Whether it is a share from 0 to 1, shown in percent (differences in points).
        kinds: The kinds of tasks that it can score.
        standardized: Whether it is the mean over the targets of error / standard deviation over the
            training items, which has no unit.
        least, most: The worst and the best value there can be, or the other way round.
        unit: The unit of its scores, where it is not that of the target.
        companion: The name of the metric that is shown beside it: of forces that of energies.
    """

    name: str
    title: str
    higher_is_better: bool
    fraction: bool
    kinds: tuple[str, ...]
    standardized: bool = False
    least: float = 0.0
    most: float = math.inf
    unit: str = ""
    companion: str = ""

    @property
    def has_unit(self) -> bool:
        """Whether scores are in the unit of the target: those of errors that are not divided."""
        return self.most == math.inf and not self.standardized

    @property
    def of_classes(self) -> bool:
        """Whether it scores classes or answers, and not numbers."""
        return self.kinds[0] in _CLASSES

    def better(self, first: float, second: float) -> bool:
        """Whether `first` is strictly better than `second`."""
        return first > second if self.higher_is_better else first < second


_CLASSES: Final = ("classification", "binary")


def _fraction(name: str, title: str, *kinds: str) -> Metric:
    return Metric(
        name=name, title=title, higher_is_better=True, fraction=True, kinds=kinds, most=1.0
    )


def _error(name: str, title: str, *, standardized: bool = False) -> Metric:
    return Metric(
        name=name,
        title=title,
        higher_is_better=False,
        fraction=False,
        kinds=("regression",),
        standardized=standardized,
    )


def _error_of(what: str, how: str, unit: str) -> Metric:
    beside = {"energy": "force", "force": "energy"}[what]
    return Metric(
        name=f"{what}_{how.lower()}",
        title=f"{what} {how}",
        companion=f"{beside}_{how.lower()}",
        higher_is_better=False,
        fraction=False,
        kinds=(FORCES,),
        unit=unit,
    )


METRICS: Final = {
    metric.name: metric
    for metric in (
        _fraction("accuracy", "accuracy", *_CLASSES),
        _fraction("balanced_accuracy", "balanced accuracy", *_CLASSES),
        _fraction("macro_f1", "macro-F1", *_CLASSES),
        Metric(
            name="mcc",
            title="MCC",
            higher_is_better=True,
            fraction=False,
            kinds=_CLASSES,
            least=-1.0,
            most=1.0,
        ),
        _fraction("roc_auc", "ROC-AUC", "binary"),
        _fraction("average_precision", "average precision", "binary"),
        _error("mae", "MAE"),
        _error("rmse", "RMSE"),
        _error("std_mae", "mean MAE/σ", standardized=True),
        _error("std_rmse", "mean RMSE/σ", standardized=True),
        Metric(
            name="r2",
            title="R²",
            higher_is_better=True,
            fraction=False,
            kinds=("regression",),
            least=-math.inf,
            most=1.0,
        ),
        _error_of("energy", "MAE", f"{ENERGY_UNIT}/atom"),
        _error_of("force", "MAE", FORCE_UNIT),
        _error_of("energy", "RMSE", f"{ENERGY_UNIT}/atom"),
        _error_of("force", "RMSE", FORCE_UNIT),
    )
}
DEFAULT_METRICS: Final = {
    "classification": "accuracy",
    "binary": "roc_auc",
    "regression": "mae",
    FORCES: "force_mae",
}


def metric_named(name: str, kind: str | None = None) -> Metric:
    """Return a metric by name.

    Args:
        name: One of `METRICS`.
        kind: If given, check that the metric scores this kind of task.

    Raises:
        ValueError: The name is unknown, or the metric does not score tasks of this kind.
    """
    if (logged := logged_metric(name)) is not None:
        return logged
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    metric = METRICS[name]
    if kind is not None and kind not in metric.kinds:
        fit = ", ".join(known.name for known in METRICS.values() if kind in known.kinds)
        if (kind, metric.kinds) == ("classification", ("binary",)):
            fit += ", or the task binary if there are two classes"
        raise ValueError(f"metric {name!r} does not score {kind} tasks; expected {fit}")
    return metric


def logged_metric(text: str) -> Metric | None:
    """Return the metric of a value that user code computes: `"f1:max"`, `"val_loss:min"`.

    A part `val_` of the name is left out of the title: the same value is computed of other parts.
    None if the text has another form.
    """
    value, _, direction = text.rpartition(":")
    if not value or direction not in ("max", "min"):
        return None
    title = part_of(value, "")
    known = METRICS.get(title)
    return Metric(
        name=text,
        title=known.title if known else title,
        higher_is_better=direction == "max",
        fraction=known.fraction if known else False,
        kinds=("classification", "binary", "regression", FORCES),
        least=known.least if known else -math.inf,
        most=known.most if known else math.inf,
    )


_VALIDATION: Final = re.compile(r"(?<![a-zA-Z])(validation|valid|val)(?![a-zA-Z])([_/.]?)")


def part_of(logged: str, part: str) -> str:
    """Return the name of a logged validation value for another part.

    `part_of("val/mae", "test")` is `"test/mae"`, and `part_of("val/mae", "")` is `"mae"`; to a name
    without a word for validation, `part` is put in front.
    """
    found, times = _VALIDATION.subn(rf"{part}\2" if part else "", logged, count=1)
    return (found if times else f"{part}_{logged}".lstrip("_")) or logged


def metric_for(name: str, task: Task) -> Metric:
    """Return the metric for a task; `mae` and `rmse` of several targets are standardized.

    The targets may have different units, so the mean of their errors has no meaning.

    Raises:
        ValueError: The name is unknown, or the metric does not score tasks of this kind.
    """
    metric = metric_named(name, task.kind)
    several = metric.name in METRICS and metric.has_unit and task.outputs > 1
    return METRICS[f"std_{name}"] if several else metric


def metrics_of(task: Task) -> tuple[Metric, ...]:
    """Return the metrics that fit a task, in the order of `METRICS`.

    Of one number the errors in its unit, of several the standardized ones.
    """
    fit = (metric for metric in METRICS.values() if task.kind in metric.kinds)
    several = task.kind == "regression" and task.outputs > 1
    return tuple(m for m in fit if not (m.has_unit if several else m.standardized))
