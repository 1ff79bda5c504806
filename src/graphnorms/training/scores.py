"""The scores of outputs, by every metric."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from graphnorms.data.task_kinds import FORCES
from graphnorms.kernels.point import in_float64
from graphnorms.training.class_scores import OF_COUNTS, OF_ORDER, confusion
from graphnorms.training.forces import error_of
from graphnorms.training.metrics import metric_named


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
