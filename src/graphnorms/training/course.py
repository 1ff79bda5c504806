"""The protocol of one trial: what its epochs leave behind, and the record made of it."""

from __future__ import annotations

import math
import platform
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from graphnorms.training.config import TrialConfig
from graphnorms.training.metrics import Metric
from graphnorms.training.record import Record

_HISTORY: Final = (
    "train_loss", "train_score", "validation_loss", "validation_score", "learning_rate",
)  # fmt: skip


class Judged(NamedTuple):
    """How well some items are predicted.

    Args:
        loss: The mean loss.
        score: By the metric of the trial.
        targets: Of several numbers the error of each, in its own unit.
    """

    loss: float
    score: float
    targets: dict[str, float] | None = None


class Course:
    """What is kept of a trial while it runs.

    Args:
        config: The trial.
        metric: What scores it.

    Attributes:
        reason: Why the trial failed; empty while it has not.
        state: The weights of the best epoch, where they were kept.
    """

    def __init__(self, config: TrialConfig, metric: Metric) -> None:
        self.config = config
        self.reason = ""
        self.state: dict[str, Tensor] = {}
        self._metric = metric
        self._history: dict[str, list[float]] = {
            name: [] for name in _HISTORY if name != "train_score" or config.scores_training
        }
        self._timing: dict[str, Any] = {"train": [], "evaluation": []}
        self._best: dict[str, float] = {}
        self._targets: dict[str, dict[str, float]] = {}

    def rate(self, epoch: int) -> float:
        """Return the step size of an epoch: falling linearly to 0 after the last, or constant."""
        config = self.config
        if config.schedule == "linear":
            return config.learning_rate * (1 - epoch / config.epochs)
        return config.learning_rate

    def goes_on(self, epoch: int, trained: float, validated: Judged) -> bool:
        """Whether both losses of an epoch are finite; if not, the trial has failed."""
        for which, loss in (("training", trained), ("validation", validated.loss)):
            if not math.isfinite(loss):
                self.reason = f"the {which} loss was not finite in epoch {epoch + 1}"
                return False
        return True

    def improves(self, validated: Judged) -> bool:
        """Whether a validation is better than the best so far: by score, then by loss."""
        loss, value = validated.loss, validated.score
        best = self._best
        if not best or value == best["validation_score"]:
            return not best or loss < best["validation_loss"]
        return self._metric.better(value, best["validation_score"])

    def note_best(self, epoch: int, validated: Judged, tested: Judged | None) -> None:
        """Take an epoch as the best so far."""
        self._best = {"epoch": epoch + 1}
        for part, judged in (("validation", validated), ("test", tested)):
            if judged is not None:
                self._best |= {f"{part}_score": judged.score, f"{part}_loss": judged.loss}
                if judged.targets:
                    self._targets[part] = judged.targets

    def keep(self, model: nn.Module) -> None:
        """Keep the weights as they are now."""
        self.state = {name: value.clone() for name, value in model.state_dict().items()}

    def note(
        self, trained: float, train_score: float | None, validated: Judged, rate: float
    ) -> None:
        """Add an epoch to the history.

        Args:
            trained: The training loss.
            train_score: Of the training items in eval mode, where it was evaluated.
            validated: Of the validation items.
            rate: The step size.
        """
        values = (trained, train_score, validated.loss, validated.score, rate)
        for name, value in zip(_HISTORY, values, strict=True):
            if value is not None:
                self._history.setdefault(name, []).append(value)

    def took(self, training: float, evaluation: float) -> None:
        """Add the seconds of an epoch."""
        self._timing["train"].append(training)
        self._timing["evaluation"].append(evaluation)

    def record(self, counts: dict[str, int], seconds: float, **timing: Any) -> Record:
        """Make the record.

        Args:
            counts: Its counts.
            seconds: What the whole trial took.
            timing: What else is to be said of the times.
        """
        config = self.config
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="failed" if self.reason else "done",
            reason=self.reason,
            history=self._history,
            outcome={} if self.reason else self._best,
            target_scores={} if self.reason else self._targets,
            counts=counts,
            environment=_environment(config),
            timing={**self._timing, "total": seconds, **timing},
        )


def _environment(config: TrialConfig) -> dict[str, Any]:
    device = torch.device(config.device)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "graphnorms": config.graphnorms_version,
        "platform": platform.platform(),
        "processor": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else processor_name(),
        "threads": torch.get_num_threads(),
    }


def processor_name() -> str:
    """Return what the processor calls itself, or its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
