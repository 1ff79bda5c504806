"""The scores of trials: their computation, direction and titles."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from graphnorms.data import Task
from graphnorms.errors import unknown_name
from graphnorms.kernels.point import in_float64


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of predictions.

    Args:
        name: Its name in options and records.
        title: Its name in texts, e.g. "accuracy".
        higher_is_better: Whether higher is better.
        fraction: Whether it is a share from 0 to 1, shown in percent (differences in points). Other
            scores are in the unit of the target, unless standardized.
        kinds: The kinds of tasks that it can score.
        standardized: Whether it is the mean over the targets of error / standard deviation over the
            training items, which has no unit.
    """

    name: str
    title: str
    higher_is_better: bool
    fraction: bool
    kinds: tuple[str, ...]
    standardized: bool = False

    def better(self, first: float, second: float) -> bool:
        """Whether `first` is strictly better than `second`."""
        return first > second if self.higher_is_better else first < second


METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy",
            title="accuracy",
            higher_is_better=True,
            fraction=True,
            kinds=("classification", "binary"),
        ),
        Metric(
            name="roc_auc",
            title="ROC-AUC",
            higher_is_better=True,
            fraction=True,
            kinds=("binary",),
        ),
        Metric(
            name="average_precision",
            title="average precision",
            higher_is_better=True,
            fraction=True,
            kinds=("binary",),
        ),
        Metric(
            name="mae",
            title="MAE",
            higher_is_better=False,
            fraction=False,
            kinds=("regression",),
        ),
        Metric(
            name="rmse",
            title="RMSE",
            higher_is_better=False,
            fraction=False,
            kinds=("regression",),
        ),
        Metric(
            name="std_mae",
            title="mean MAE/σ",
            higher_is_better=False,
            fraction=False,
            kinds=("regression",),
            standardized=True,
        ),
        Metric(
            name="std_rmse",
            title="mean RMSE/σ",
            higher_is_better=False,
            fraction=False,
            kinds=("regression",),
            standardized=True,
        ),
    )
}
DEFAULT_METRICS: Final = {"classification": "accuracy", "binary": "roc_auc", "regression": "mae"}


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
        kinds=("classification", "binary", "regression"),
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
    several = task.kind == "regression" and task.outputs > 1
    if several and not metric.standardized and name in METRICS:
        return METRICS[f"std_{name}"]
    return metric


def score(
    name: str, kind: str, outputs: Tensor, targets: Tensor, std: Tensor | None = None
) -> float:
    """Score the outputs of a model, all items at once.

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
    if kind == "classification":
        return _shares_right(outputs.argmax(1) == targets, targets >= 0)
    present = ~targets.isnan()
    if name == "accuracy":
        return _shares_right((outputs > 0) == (targets > 0.5), present)
    if kind == "binary":
        curve = _CURVES[name]
        values = [
            curve(outputs[here, question], targets[here, question] > 0.5)
            for question, here in enumerate(present.unbind(1))
        ]
        known = [value for value in values if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan
    errors = errors_of(name, outputs, targets)
    if metric.standardized:
        if std is None:
            raise ValueError(f"metric {name!r} needs std, a deviation per target")
        std = in_float64(std).cpu()
        counts = present.any(0).cpu() & (std > 0)
        return float((errors / std)[counts].mean())
    if errors.shape[0] != 1:
        raise ValueError(
            f"metric is {name!r}, expected one without a unit for {errors.shape[0]} targets; "
            f"use 'std_{name}'"
        )
    return float(errors[0])


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


def _shares_right(right: Tensor, present: Tensor) -> float:
    """Return the share of right answers among those present."""
    counts = torch.stack(((right & present).sum(), present.sum())).tolist()
    return counts[0] / counts[1] if counts[1] else math.nan


def roc_auc(scores: Tensor, positive: Tensor) -> float:
    """Return the area under the ROC curve of one question; NaN unless both answers occur.

    This is the share of pairs of a positive and a negative item in which the positive one scores
    higher; a tie counts half. Equals `sklearn.metrics.roc_auc_score`.

    Shapes: `scores` and `positive` `(items,)`.
    """
    hits, misses = _counts_by_threshold(scores, positive)
    positives, negatives = hits.sum(), misses.sum()
    above = hits.cumsum(0) - hits / 2  # (thresholds,), positives above it
    return float((misses * above).sum() / (positives * negatives))


def average_precision(scores: Tensor, positive: Tensor) -> float:
    """Return the average precision of one question; NaN unless both answers occur.

    This is the precision at each threshold, weighted by the increase in recall. Equals
    `sklearn.metrics.average_precision_score`.

    Shapes: `scores` and `positive` `(items,)`.
    """
    hits, misses = _counts_by_threshold(scores, positive)
    if not misses.sum():
        return math.nan
    precision = hits.cumsum(0) / (hits + misses).cumsum(0)
    return float((precision * hits).sum() / hits.sum())


_CURVES: Final[dict[str, Callable[[Tensor, Tensor], float]]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
}


def _counts_by_threshold(scores: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """Count the positive and the negative items at every score, in descending order."""
    ordered, order = scores.sort(descending=True)
    rank = torch.unique_consecutive(ordered, return_inverse=True)[1]  # (items,)
    thresholds = int(rank[-1]) + 1 if rank.shape[0] else 0
    here = in_float64(positive[order])
    rank = rank.to(here.device)
    zeros = here.new_zeros(thresholds)
    return zeros.index_add(0, rank, here), zeros.index_add(0, rank, 1 - here)
