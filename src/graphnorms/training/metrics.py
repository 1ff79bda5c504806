"""The scores of trials: their computation, direction and titles."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from graphnorms.data import Task
from graphnorms.data.atoms import ENERGY_UNIT, FORCE_UNIT
from graphnorms.data.tasks import FORCES
from graphnorms.errors import unknown_name
from graphnorms.kernels.point import in_float64
from graphnorms.training.class_scores import OF_COUNTS, OF_ORDER, confusion
from graphnorms.training.forces import error_of


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


def score(
    name: str, kind: str, outputs: Tensor, targets: Tensor, std: Tensor | None = None
) -> float:
    """Score the outputs of a model, all items at once.

    | metric | one class per item | questions of yes or no | numbers |
    |---|---|---|---|
    | accuracy | share of right items | share of right answers, all questions together | |
    | balanced_accuracy, macro_f1, mcc | over the classes | mean over the questions | |
    | roc_auc, average_precision | | mean over the questions | |
    | mae, rmse | | | one number only |
    | std_mae, std_rmse, r2 | | | mean over the numbers |

    Errors of energies and forces (`energy_mae`, `force_mae`, …) take rows of atoms, see
    `graphnorms.training.forces`.

    A question or a number whose score is undefined for the targets is left out of the mean.

    Args:
        name: One of `METRICS`.
        kind: The kind of the task, see `graphnorms.data.Task`.
        outputs: Logits, or numbers in the unit of the targets, `(items, outputs)`.
        targets: See `Task`; missing ones do not count. On the device of `outputs`.
        std: The standard deviation of each target over the training items, `(numbers,)`, for
            standardized metrics. Targets with 0 or NaN do not count.

    Returns:
        The score; NaN if it is undefined for the targets.

    Raises:
        ValueError: The metric is unknown or does not score tasks of this kind; it is not
            standardized but there are several targets; or `std` is missing.
    """
    metric = metric_named(name, kind)
    if kind == FORCES:
        return error_of(name, outputs, targets)
    if kind == "classification":
        predicted = outputs.argmax(1)
        if name == "accuracy":
            return _shares_right(predicted == targets, targets >= 0)
        return OF_COUNTS[name](confusion(predicted, targets, outputs.shape[1]))
    if kind == "binary" and name == "accuracy":
        return _shares_right((outputs > 0) == (targets > 0.5), ~targets.isnan())
    values = scores_by_target(name, kind, outputs, targets)
    if metric.standardized:
        if std is None:
            raise ValueError(f"metric {name!r} needs std, a deviation per target")
        deviations = in_float64(std).tolist()
        values = [v / d for v, d in zip(values, deviations, strict=True) if d > 0]
    elif metric.has_unit and len(values) != 1:
        raise ValueError(
            f"metric is {name!r}, expected one without a unit for {len(values)} targets; "
            f"use 'std_{name}'"
        )
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def scores_by_target(name: str, kind: str, outputs: Tensor, targets: Tensor) -> list[float]:
    """Score every question, or number, by itself; NaN where the score is undefined.

    Args:
        name: A metric of the kind; of a standardized one the error before it is divided by σ.
        kind: `"binary"` or `"regression"`.
        outputs, targets: See `score`.
    """
    metric_named(name, kind)
    if kind == "regression":
        scores = r2_of if name == "r2" else functools.partial(errors_of, name)
        values: list[float] = scores(outputs, targets).tolist()
        return values
    found = []
    for question, here in enumerate((~targets.isnan()).unbind(1)):
        logits, positive = outputs[here, question], targets[here, question] > 0.5
        if name in OF_ORDER:
            found.append(OF_ORDER[name](logits, positive))
        else:
            counts = confusion((logits > 0).long(), positive.long(), 2)
            found.append(OF_COUNTS[name](counts))
    return found


def errors_of(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean absolute or root mean square error of each target.

    Args:
        name: A regression metric; for a standardized one, the errors before standardization.
        outputs, targets: See `score`.

    Returns:
        `(numbers,)` in float64 on the host; NaN for a target without values.
    """
    wanted = in_float64(targets)
    present = ~wanted.isnan()
    error = torch.where(present, in_float64(outputs) - wanted, 0.0)
    squared = name.endswith("rmse")
    means = (error.square() if squared else error.abs()).sum(0) / present.sum(0)
    return (means.sqrt() if squared else means).cpu()


def r2_of(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""Return the coefficient of determination of each target, `(numbers,)` float64 on the host.

    $1 - \sum (y - \hat y)^2 / \sum (y - \bar y)^2$ over the items where y is known: 1 is exact, and
    their mean scores 0. NaN where they do not vary; else equals `sklearn.metrics.r2_score`.

    Args:
        outputs, targets: See `score`.
    """
    wanted = in_float64(targets)
    if not len(wanted):
        return torch.full(wanted.shape[1:], math.nan, dtype=torch.float64)
    present = ~wanted.isnan()
    error = torch.where(present, in_float64(outputs) - wanted, 0.0).square().sum(0)
    spread = torch.where(present, wanted - wanted.nanmean(0), 0.0).square().sum(0)
    # A spread above 0 is not enough: the mean of equal numbers is rounded.
    varies = (wanted.sort(0).values.diff(dim=0) > 0).any(0) & (spread > 0)
    return torch.where(varies, 1 - error / spread, math.nan).cpu()


def _shares_right(right: Tensor, present: Tensor) -> float:
    """Return the share of right answers among those present."""
    counts = torch.stack(((right & present).sum(), present.sum())).tolist()
    return counts[0] / counts[1] if counts[1] else math.nan
