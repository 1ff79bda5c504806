"""The loss of a task, and the predictions from the outputs of a model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphnorms.data import GraphSet, Task
from graphnorms.kernels.point import in_float64
from graphnorms.training.metrics import metrics_of
from graphnorms.training.record import Judged
from graphnorms.training.scores import score, scores_by_target


class Objective:
    r"""The loss of a task, the mean over all targets that are present.

    | kind | loss |
    |---|---|
    | `"classification"` | cross entropy |
    | `"binary"` | binary cross entropy with logits, per question |
    | `"regression"` | $\big(z - (y - \mu) / \sigma\big)^2$ per number |

    A regression model returns $z$; $\mu$ and $\sigma$ are the mean and the standard deviation of
    each target over the training items, and the predictions are $\mu + \sigma z$. Both conversions
    use float64, on the host if the device has none: float32 would round total energies of 1e8 to
    multiples of 8.

    Args:
        task: The task.
        mean, std: $\mu$ and $\sigma$, `(numbers,)` in float64; for regression only.
        varies: Which targets vary over the training items; $\sigma$ is 1 for the others.
    """

    def __init__(
        self,
        task: Task,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        varies: Tensor | None = None,
    ) -> None:
        self.task = task
        self.kind = task.kind
        self.mean = mean
        self.std = std
        self._varies = varies

    @classmethod
    def of(cls, task: Task, targets: Tensor) -> Objective:
        """Return the objective of a task for some training targets.

        Args:
            task: The task.
            targets: Targets of the training items; missing ones do not count. A constant target is
                shifted but not scaled.
        """
        if task.kind != "regression":
            return cls(task)
        wide = in_float64(targets)
        mean = wide.nanmean(0).nan_to_num(0.0)
        std = (wide - mean).square().nanmean(0).sqrt()
        # std > 0 alone is not enough: the mean of equal numbers is rounded.
        varies = (wide.sort(0).values.diff(dim=0) > 0).any(0) & (std > 0)
        return cls(task, mean, torch.where(varies, std, 1.0), varies)

    @property
    def columns(self) -> int:
        """Columns of the outputs of a model."""
        return self.task.outputs

    @property
    def deviations(self) -> Tensor | None:
        r"""$\sigma$, 0 for constant targets; `None` unless a regression."""
        if self.std is None or self._varies is None:
            return self.std
        return torch.where(self._varies, self.std, 0)

    def standardized(self, graphs: GraphSet) -> GraphSet:
        r"""Return the set with targets $(y - \mu) / \sigma$; itself unless a regression."""
        if self.mean is None or self.std is None:
            return graphs
        y = (in_float64(graphs.y).to(self.mean.device) - self.mean) / self.std
        return graphs.with_targets(y)

    def loss(self, outputs: Tensor, targets: Tensor, *, complete: bool = False) -> Tensor:
        """Return the mean loss over the targets present, a scalar; NaN if there is none.

        Args:
            outputs: The outputs of the model, `(items, outputs)`.
            targets: See `Task`, numbers standardized.
            complete: Whether no target is missing, which saves the mask.
        """
        if self.kind == "classification":
            return F.cross_entropy(outputs, targets, ignore_index=-1)
        targets = targets.to(outputs.dtype)
        present = None
        if not complete:
            present = ~targets.isnan()
            targets = targets.nan_to_num(0.0)
        if self.kind == "binary":
            losses = F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
        else:
            losses = (outputs - targets).square()
        if present is None:
            return losses.mean()
        return (losses * present).sum() / present.sum()

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return predictions in the unit of the targets, float64; logits are unchanged."""
        if self.mean is None or self.std is None:
            return outputs
        return self.mean + self.std * in_float64(outputs)

    def judge(self, metric: str, outputs: Tensor, targets: Tensor) -> Judged:
        """Return the mean loss and the score of some items; synchronizes the device.

        Args:
            metric: The name of the metric.
            outputs: The outputs of the model, `(items, outputs)`.
            targets: See `Task`, numbers standardized.
        """
        loss = float(self.loss(outputs, targets))
        return Judged(loss, score(metric, self.kind, *self._in_unit(outputs, targets)))

    def all_scores(
        self, metric: str, outputs: Tensor, targets: Tensor
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return the scores by every metric of the task, and those of each target by one.

        Args:
            metric: The metric for the targets. Of a standardized one the error before it is divided
                by σ, in the unit of the target.
            outputs, targets: See `judge`.

        Returns:
            By metric, and by the name of the question or number; the latter empty unless there are
            several.
        """
        known = self._in_unit(outputs, targets)
        scores = {each.name: score(each.name, self.kind, *known) for each in metrics_of(self.task)}
        if self.kind == "classification" or self.task.outputs == 1:
            return scores, {}
        by_target = scores_by_target(metric, self.kind, *known[:2])
        return scores, dict(zip(self.task.targets, by_target, strict=True))

    def _in_unit(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        r"""Return outputs and targets as `score` takes them, numbers times $\sigma$; and that."""
        if self.std is None:
            return outputs, targets, None
        std = self.std.to(in_float64(outputs).device)
        return std * in_float64(outputs), std * in_float64(targets), self.deviations
