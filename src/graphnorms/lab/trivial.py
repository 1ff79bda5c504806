"""What a predictor scores that looks at no graph, so that nothing at chance is recommended."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from graphnorms.data import GraphSet
    from graphnorms.lab.plan import Schedule
    from graphnorms.training.metrics import Metric


@dataclass(frozen=True, kw_only=True)
class Trivial:
    """The scores of one answer for all items, by fold; None where a part has no score.

    Args:
        held_out: On the part that the reported score comes from.
        train: On the part that is trained on.
    """

    held_out: Sequence[float | None]
    train: Sequence[float | None]

    def to_dict(self) -> dict[str, Any]:
        """Return them as JSON-able data; `Trivial(**data)` reads it back."""
        return {name: list(values) for name, values in asdict(self).items()}

    def mean(self, part: str, folds: Sequence[int]) -> float | None:
        """Average over folds, one entry per value to be averaged; None if one is not known."""
        scores: Sequence[float | None] = getattr(self, part)
        found = [scores[fold] if fold < len(scores) else None for fold in folds]
        known = [score for score in found if score is not None]
        return fmean(known) if known and len(known) == len(found) else None


NAMES: Mapping[str, str] = {
    "accuracy": "naming the most frequent class for every item",
    "mae": "predicting the mean target for every item",
    "rmse": "predicting the mean target for every item",
    "std_mae": "predicting the mean targets for every item",
    "std_rmse": "predicting the mean targets for every item",
}
"""What the trivial predictor does, by metric; of curves the order says nothing: guessing."""


def trivial_name(metric: Metric) -> str:
    """Say what the trivial predictor does."""
    return NAMES.get(metric.name, "guessing")


def beats(metric: Metric, score: float, level: float | None) -> bool:
    """Say whether a score is better than the trivial one, by more than rounding."""
    if level is None:
        return True
    return metric.better(score, level) and not math.isclose(score, level, rel_tol=1e-9)


def trivial_score(metric: str, kind: str, targets: Tensor, std: Tensor | None = None) -> float:
    """Score the constant answer that fits some targets: their frequent class, or their mean.

    Accuracy is the share of the most frequent class; ROC-AUC is 1/2; average precision is the
    share of positives; errors are those of the mean. The targets themselves choose the constant,
    which is a little more than a predictor can know: the bar is rather too high than too low.

    Args:
        metric: One of `graphnorms.training.METRICS`.
        kind: The kind of the task.
        targets: As `graphnorms.data.Task` says; NaN, or a negative class, is missing.
        std: Of standardized metrics, the deviation of each number, see `score`.
    """
    from graphnorms.training.metrics import score

    if kind == "classification":
        constant = targets[targets >= 0].bincount().double()  # (classes,)
    else:
        constant = targets.double().nanmean(dim=0)  # (targets,)
        if kind == "binary":
            constant = constant - 0.5
    return score(metric, kind, constant.expand(len(targets), -1), targets, std)


def trivial_scores(graphs: GraphSet, schedule: Schedule) -> Trivial:
    """Score the trivial predictor on every fold of a comparison."""
    from graphnorms.data import split_items
    from graphnorms.training.objective import Objective

    y, metric, kind = graphs.y.cpu(), schedule.settings.metric, graphs.task.kind
    held_out: list[float | None] = []
    train: list[float | None] = []
    for fold in range(schedule.settings.folds):
        split = split_items(graphs, schedule.split(fold))
        part = split.test if len(split.test) else split.validation
        std = Objective.of(graphs.task, y[split.train]).deviations
        for scores, items in ((held_out, part), (train, split.train)):
            value = trivial_score(metric, kind, y[items], std)
            scores.append(value if math.isfinite(value) else None)
    return Trivial(held_out=held_out, train=train)
