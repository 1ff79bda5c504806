"""What training minimizes, and what the results of a model mean."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from graphnorms.data import Task
from graphnorms.kernels.problem import in_float64
from graphnorms.training.metrics import score


class Objective:
    r"""The loss of a task, the mean over all targets that are present.

    | kind | loss |
    |---|---|
    | `"classification"` | cross entropy |
    | `"binary"` | binary cross entropy with logits, per question |
    | `"regression"` | $\big(z - (y - \mu) / \sigma\big)^2$ per number |

    A regression model gives $z$; $\mu$ and $\sigma$ are the mean and the standard deviation of
    what it is trained on, number by number, and its predictions $\mu + \sigma z$.

    Args:
        task: What is learned.
        mean, std: $\mu$ and $\sigma$, `(numbers,)`; only of a regression.
    """

    def __init__(
        self, task: Task, mean: Tensor | None = None, std: Tensor | None = None
    ) -> None:  # fmt: skip
        self.kind = task.kind
        self.mean = mean
        self.std = std

    @classmethod
    def of(cls, task: Task, targets: Tensor, dtype: torch.dtype) -> Objective:
        """Return the objective of a task for what is trained on.

        Args:
            task: What is learned.
            targets: Those of the training items; missing ones do not count. A number that is the
                same for all of them is shifted and not scaled.
            dtype: That of the model.
        """
        if task.kind != "regression":
            return cls(task)
        wide = in_float64(targets)
        mean = wide.nanmean(0).nan_to_num(0.0)
        std = (wide - mean).square().nanmean(0).sqrt()
        std = torch.where(std > 0, std, 1.0)  # also where no number is present
        return cls(task, mean.to(targets.device, dtype), std.to(targets.device, dtype))

    def loss(self, outputs: Tensor, targets: Tensor, *, complete: bool = False) -> Tensor:
        """Return the mean loss over the targets present, a scalar; NaN where none is.

        Args:
            outputs: What the model gives, `(items, outputs)`.
            targets: As `Task` says.
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
            assert self.mean is not None
            assert self.std is not None
            losses = (outputs - (targets - self.mean) / self.std).square()
        if present is None:
            return losses.mean()
        return (losses * present).sum() / present.sum()

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return what the model says in the unit of the targets; logits stay logits."""
        if self.mean is None or self.std is None:
            return outputs
        return self.mean + self.std * outputs

    def judge(self, metric: str, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """Return the mean loss and the score of many items; reads the device."""
        loss = float(self.loss(outputs, targets))
        return loss, score(metric, self.kind, self.predictions(outputs), targets)
