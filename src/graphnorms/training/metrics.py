"""The scores that trials are judged by: which way is better, and how they are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from graphnorms.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of predictions.

    Args:
        name: As options and records call it.
        title: As text calls it, e.g. "accuracy".
        higher_is_better: Which way is better.
        fraction: Whether it is a share from 0 to 1, shown as percent and differences of it as
            points; other scores are in the unit of the target.
        kinds: The tasks that it can score.
    """

    name: str
    title: str
    higher_is_better: bool
    fraction: bool
    kinds: tuple[str, ...]

    def better(self, first: float, second: float) -> bool:
        """Whether `first` is strictly better than `second`."""
        return first > second if self.higher_is_better else first < second


METRICS: Final = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy", title="accuracy", higher_is_better=True, fraction=True,
            kinds=("classification", "binary"),
        ),
        Metric(
            name="roc_auc", title="ROC-AUC", higher_is_better=True, fraction=True,
            kinds=("binary",),
        ),
        Metric(
            name="average_precision", title="average precision", higher_is_better=True,
            fraction=True, kinds=("binary",),
        ),
        Metric(
            name="mae", title="MAE", higher_is_better=False, fraction=False,
            kinds=("regression",),
        ),
        Metric(
            name="rmse", title="RMSE", higher_is_better=False, fraction=False,
            kinds=("regression",),
        ),
    )
}  # fmt: skip
DEFAULT_METRICS: Final = {"classification": "accuracy", "binary": "roc_auc", "regression": "mae"}


def metric_named(name: str, kind: str | None = None) -> Metric:
    """Return a metric by name.

    Args:
        name: One of `METRICS`.
        kind: The kind of the task that it is to score, if that is to be checked.

    Raises:
        ValueError: There is no such metric, or it does not score tasks of this kind.
    """
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    metric = METRICS[name]
    if kind is not None and kind not in metric.kinds:
        fit = ", ".join(known.name for known in METRICS.values() if kind in known.kinds)
        raise ValueError(f"metric {name!r} does not score {kind} tasks; expected {fit}")
    return metric
