"""What training minimizes, and what the results of a model mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphnorms.data import GraphSet, Task
from graphnorms.kernels.point import in_float64
from graphnorms.training.metrics import errors_of, score
from graphnorms.training.record import Judged


class Objective:
    r"""The loss of a task, the mean over all targets that are present.

    | kind | loss |
    |---|---|
    | `"classification"` | cross entropy |
    | `"binary"` | binary cross entropy with logits, per question |
    | `"regression"` | $\big(z - (y - \mu) / \sigma\big)^2$ per number |

    A regression model gives $z$; $\mu$ and $\sigma$ are the mean and the standard deviation of
    what it is trained on, number by number, and its predictions $\mu + \sigma z$. Both ways are
    gone in float64, on the host where the device has none: of total energies of 1e8, float32
    keeps multiples of 8.

    Args:
        task: What is learned.
        mean, std: $\mu$ and $\sigma$, `(numbers,)` in float64; only of a regression.
        varies: Which numbers differ among the training items; $\sigma$ is 1 for the others.
    """

    def __init__(
        self,
        task: Task,
        mean: Tensor | None = None,
        std: Tensor | None = None,
        varies: Tensor | None = None,
    ) -> None:
        self.kind = task.kind
        self.mean = mean
        self.std = std
        self._targets = task.targets
        self._varies = varies

    @classmethod
    def of(cls, task: Task, targets: Tensor) -> Objective:
        """Return the objective of a task for what is trained on.

        Args:
            task: What is learned.
            targets: Those of the training items; missing ones do not count. A number that is the
                same for all of them is shifted and not scaled.
        """
        if task.kind != "regression":
            return cls(task)
        wide = in_float64(targets)
        mean = wide.nanmean(0).nan_to_num(0.0)
        std = (wide - mean).square().nanmean(0).sqrt()
        # Not by std > 0: the mean of equal numbers is rounded. No number at all does not vary.
        varies = (wide.sort(0).values.diff(dim=0) > 0).any(0) & (std > 0)
        return cls(task, mean, torch.where(varies, std, 1.0), varies)

    @property
    def deviations(self) -> Tensor | None:
        r"""$\sigma$, 0 for numbers that do not vary; `None` unless a regression."""
        if self.std is None or self._varies is None:
            return self.std
        return torch.where(self._varies, self.std, 0)

    def standardized(self, graphs: GraphSet) -> GraphSet:
        r"""Return a set with $(y - \mu) / \sigma$ for targets; itself unless a regression."""
        if self.mean is None or self.std is None:
            return graphs
        y = (in_float64(graphs.y).to(self.mean.device) - self.mean) / self.std
        return graphs.with_targets(y)

    def loss(self, outputs: Tensor, targets: Tensor, *, complete: bool = False) -> Tensor:
        """Return the mean loss over the targets present, a scalar; NaN where none is.

        Args:
            outputs: What the model gives, `(items, outputs)`.
            targets: As `Task` says, numbers standardized.
            complete: Whether no target is known to be missing: that saves the mask.
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
        """Return what the model says in the unit of the targets, float64; logits stay logits."""
        if self.mean is None or self.std is None:
            return outputs
        return self.mean + self.std * in_float64(outputs)

    def judge(self, metric: str, outputs: Tensor, targets: Tensor) -> Judged:
        """Return the mean loss and the score of many items; reads the device.

        Args:
            metric: What scores them.
            outputs: What the model gives, `(items, outputs)`.
            targets: As `Task` says, numbers standardized.
        """
        loss = float(self.loss(outputs, targets))
        if self.std is None:
            return Judged(loss, score(metric, self.kind, outputs, targets))
        std = self.std.to(in_float64(outputs).device)
        scaled = std * in_float64(outputs), std * in_float64(targets)
        value = score(metric, self.kind, *scaled, self.deviations)
        if len(self._targets) == 1:
            return Judged(loss, value)
        errors = errors_of(metric, *scaled).tolist()
        return Judged(loss, value, dict(zip(self._targets, errors, strict=True)))
