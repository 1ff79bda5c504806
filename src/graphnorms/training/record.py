"""The record of a trial, which is plain data, and the log that collects it."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:  # a list of runs reads records, and needs no torch
    from torch import Tensor, nn

    from graphnorms.training.metrics import Metric
    from graphnorms.training.trial_config import TrialConfig

_HISTORY: Final = (
    "train_loss",
    "train_score",
    "validation_loss",
    "validation_score",
    "learning_rate",
)

_LATER: Final = ("start", "measures")
"""Fields that came later, and are left out of the JSON where they are empty."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """The outcome of one trial.

    Args:
        key: Content hash of `config`.
        config: `TrialConfig.to_dict()`.
        status: `"done"`, or `"failed"` with the cause in `reason`.
        reason: One line; empty for a finished trial. A loss that is not finite is a failure.
        history: One list per quantity with one entry per finished epoch: `train_loss` (averaged
            over the epoch, in training mode), `train_score` (after the epoch, in eval mode; not in
            stage `"select"`), `validation_loss`, `validation_score`, `learning_rate` (of the last
            step). The metric is `config["metric"]`.
        outcome: `epoch` (from 1) with the best validation score, ties broken by the lowest
            validation loss, and its `validation_score`, `validation_loss`, and in stage `"final"`
            `test_score` and `test_loss`.
        scores: By every metric of the task, at the same epoch: under `"validation"` and, in stage
            `"final"`, `"test"`, by the name of the metric.
        target_scores: For several questions or numbers: the score of each by name, by the metric of
            the trial (of a standardized one the error in its unit), in the same parts.
        counts: `parameters`, `train_items`, `validation_items`, `test_items`, `steps_per_epoch`.
            Items are graphs, or labelled nodes in node-level tasks; test items are counted in stage
            `"final"` only.
        environment: `python`, `torch`, `graphnorms`, `platform`, `processor`, `threads`.
        timing: Measured times in seconds: `train` and `evaluation` (lists, per epoch), `measures`
            where there are any, and `total`.
            Only this part differs between two runs of one config.
        start: Of training by user code: `weights`, the hash of the initial weights apart from those
            of norms, and `order`, hashes of the order of the items in the passes over them, as far
            as they were seen; see `graphnorms.training.trial_start`.
        measures: Of reported trials: what was measured in the model before the first step,
            `"initial"`, and after the last, `"final"`; see `graphnorms.training.measures`.
    """

    key: str
    config: dict[str, Any]
    status: str
    reason: str = ""
    history: dict[str, list[float]] = field(default_factory=dict)
    outcome: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    target_scores: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)
    start: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the record as one line of JSON; NaN and infinities become null."""
        data = asdict(self)
        for name in _LATER:  # so that records are as they were before there was the field
            if not data[name]:
                del data[name]
        return json.dumps(_finite(data), allow_nan=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Record:
        """Parse the output of `to_json`.

        Raises:
            ValueError: The line is not JSON or not a record.
        """
        data = json.loads(line)
        try:
            record = cls(**data)
        except TypeError as error:
            raise ValueError(f"not a trial record: {error}") from None
        for name, value in vars(record).items():
            kind = str if name in ("key", "status", "reason") else dict
            if not isinstance(value, kind):
                raise ValueError(f"not a trial record: {name} is of type {type(value).__name__}")
        return record

    def without_timing(self) -> dict[str, Any]:
        """Return everything that is equal in every run of the config."""
        data = asdict(self)
        del data["timing"]
        return data


class Judged(NamedTuple):
    """The quality of predictions for some items.

    Args:
        loss: The mean loss.
        score: The score by the metric of the trial.
    """

    loss: float
    score: float


class TrialLog:
    """Collects the history and the best epoch of a running trial.

    Args:
        config: The trial.
        metric: Its metric.

    Attributes:
        reason: Why the trial failed; empty otherwise.
        state: The weights of the best epoch, if kept.
        measures: Those of the record.
    """

    def __init__(self, config: TrialConfig, metric: Metric) -> None:
        self.config = config
        self.reason = ""
        self.state: dict[str, Tensor] = {}
        self.measures: dict[str, Any] = {}
        self._metric = metric
        self._history: dict[str, list[float]] = {
            name: [] for name in _HISTORY if name != "train_score" or config.scores_training
        }
        self._timing: dict[str, Any] = {"train": [], "evaluation": []}
        self._best: dict[str, float] = {}
        self._scores: dict[str, dict[str, float]] = {}
        self._targets: dict[str, dict[str, float]] = {}

    def goes_on(self, epoch: int, trained: float, validated: Judged) -> bool:
        """Whether both losses of an epoch are finite; otherwise the trial has failed."""
        for which, loss in (("training", trained), ("validation", validated.loss)):
            if not math.isfinite(loss):
                self.reason = f"the {which} loss was not finite in epoch {epoch + 1}"
                return False
        return True

    def improves(self, validated: Judged) -> bool:
        """Whether a validation result is the best so far: by score, then by loss."""
        loss, value = validated.loss, validated.score
        best = self._best
        if not best or value == best["validation_score"]:
            return not best or loss < best["validation_loss"]
        return self._metric.better(value, best["validation_score"])

    def is_over(self, epoch: int) -> bool:
        """Whether so many epochs without a better one have passed that the trial ends."""
        patience = self.config.patience
        return patience is not None and epoch + 1 - self._best["epoch"] >= patience

    def note_best(self, epoch: int, validated: Judged, tested: Judged | None) -> None:
        """Store an epoch as the best so far."""
        self._best = {"epoch": epoch + 1}
        for part, judged in (("validation", validated), ("test", tested)):
            if judged is not None:
                self._best |= {f"{part}_score": judged.score, f"{part}_loss": judged.loss}

    def note_scores(self, part: str, scores: dict[str, float], by_target: dict[str, float]) -> None:
        """Store the scores of a part at the best epoch: by metric, and those of each target."""
        self._scores[part] = scores
        if by_target:
            self._targets[part] = by_target

    def measure(self, when: str, measuring: Callable[[], dict[str, Any]] | None) -> None:
        """Store what is measured now, and add the time that it takes."""
        if measuring is not None:
            begin = time.perf_counter()
            self.measures[when] = measuring()
            seconds = time.perf_counter() - begin
            self._timing["measures"] = self._timing.get("measures", 0.0) + seconds

    def keep(self, model: nn.Module) -> None:
        """Store a copy of the current weights."""
        self.state = {name: value.clone() for name, value in model.state_dict().items()}

    def note(
        self, trained: float, train_score: float | None, validated: Judged, rate: float
    ) -> None:
        """Add an epoch to the history.

        Args:
            trained: The training loss.
            train_score: The score of the training items in eval mode, if evaluated.
            validated: The result for the validation items.
            rate: The learning rate of the last step.
        """
        values = (trained, train_score, validated.loss, validated.score, rate)
        for name, value in zip(_HISTORY, values, strict=True):
            if value is not None:
                self._history.setdefault(name, []).append(value)

    def took(self, training: float, evaluation: float) -> None:
        """Add the times of an epoch, in seconds."""
        self._timing["train"].append(training)
        self._timing["evaluation"].append(evaluation)

    def record(self, counts: dict[str, int], seconds: float, **timing: Any) -> Record:
        """Make the record.

        Args:
            counts: The counts of the record.
            seconds: The total time.
            timing: Further measured times.
        """
        config = self.config
        return Record(
            key=config.key,
            config=config.to_dict(),
            status="failed" if self.reason else "done",
            reason=self.reason,
            history=self._history,
            outcome={} if self.reason else self._best,
            scores={} if self.reason else self._scores,
            target_scores={} if self.reason else self._targets,
            counts=counts,
            environment=environment_of(config),
            timing={**self._timing, "total": seconds, **timing},
            measures=self.measures,
        )


def environment_of(config: TrialConfig) -> dict[str, Any]:
    """Describe the code and the machine, see `Record`."""
    import torch

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
    """Return the model name of the processor, or its architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
