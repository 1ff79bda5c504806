"""Log the trials of a comparison to TensorBoard, Weights & Biases or MLflow: one run per trial.

| `log` | where to, after a colon | default | grouped as |
|---|---|---|---|
| `tensorboard` | a folder | `tensorboard` in the run's folder | folders in a folder |
| `wandb` | a project, or `entity/project` | `graphnorms` | the group of the run's name |
| `mlflow` | a tracking URI | MLflow's own | the experiment of the run's name |

A logged run has the curves of every epoch, the hyperparameters, the scores of the best epoch under
`best/`, and the status. A trial that is logged already is not logged again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    from graphnorms.training import Record

_BATCH: Final = 1000  # metrics that an MLflow server takes at a time
_PARAMETERS: Final = 100  # and parameters


class LoggedTrial(NamedTuple):
    """What is logged of a trial.

    Args:
        key: Of its record.
        name: Norm, stage, seed of the split, fold, run and learning rate.
        stage: What the trial is for.
        parameters: Its config; entries of entries have dotted names.
        curves: One value per epoch.
        scores: Those of the best epoch.
        status, reason: How it ended.
    """

    key: str
    name: str
    stage: str
    parameters: dict[str, Any]
    curves: dict[str, list[float | None]]
    scores: dict[str, float]
    status: str
    reason: str


def logged(record: Record) -> LoggedTrial:
    """Return what is logged of a record."""
    config, split = record.config, record.config.get("split") or {}
    place = [f"split{split['seed']}"] if "seed" in split else []
    place += [f"fold{split['fold']}"] if "fold" in split else []
    scores = {name: value for name, value in record.outcome.items() if value is not None}
    for part, errors in record.target_scores.items():
        scores |= {f"{part}_{name}": v for name, v in errors.items() if v is not None}
    words = [treatment_of(config), config["stage"], *place, f"run{config['run']}"]
    return LoggedTrial(
        key=record.key,
        name=_plain("-".join([*words, f"lr{config['learning_rate']:g}"])).replace("/", "_"),
        stage=config["stage"],
        parameters=dict(_flat(config)) | dict(_flat(record.counts, "counts.")),
        curves={_plain(name): list(values) for name, values in record.history.items()},
        scores={f"best/{_plain(name)}": float(value) for name, value in scores.items()},
        status=record.status,
        reason=record.reason,
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            simple = isinstance(value, str | int | float | bool)
            yield _plain(f"{prefix}{name}"), value if simple else json.dumps(value)


def _plain(name: str) -> str:
    """Replace what the names of an MLflow metric cannot have."""
    return re.sub(r"[^\w.\-/ ]", "_", name)


class Tracker(ABC):
    """Where trials are logged.

    Args:
        target: What stands after the colon; empty for the default.
        folder: The run's.
    """

    name: str

    def __init__(self, target: str, folder: Path) -> None:
        self.target, self.folder = target, folder

    @abstractmethod
    def check(self) -> None:
        """Say what is missing before anything is trained.

        Raises:
            ImportError: A package.
            ValueError: Something else.
        """

    @abstractmethod
    def connect(self) -> None:
        """Find the place; called in the thread, and first."""

    @abstractmethod
    def has(self, key: str) -> bool:
        """Whether the trial with this key is logged."""

    @abstractmethod
    def add(self, trial: LoggedTrial) -> None:
        """Log a trial."""


class TensorBoard(Tracker):
    """A folder of event files for each trial."""

    name = "tensorboard"

    def check(self) -> None:
        """See `Tracker.check`."""
        try:
            import tensorboard  # noqa: F401
        except ImportError:
            raise _missing(self.name) from None

    def connect(self) -> None:
        """See `Tracker.connect`."""
        place = self.folder / "tensorboard"
        if self.target:
            place = Path(self.target) / self.folder.name
        self._place = place
        place.mkdir(parents=True, exist_ok=True)
        self._there = {path.name.rpartition("-")[2] for path in place.iterdir()}

    def has(self, key: str) -> bool:
        """See `Tracker.has`."""
        return key in self._there

    def add(self, trial: LoggedTrial) -> None:
        """See `Tracker.add`; the folder appears under its name when it is complete."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        temporary = self._place / f".{trial.key}"
        shutil.rmtree(temporary, ignore_errors=True)
        with SummaryWriter(str(temporary)) as writer:
            for name, values in trial.curves.items():
                for epoch, value in enumerate(values, start=1):
                    if value is not None:
                        writer.add_scalar(name, value, epoch)
            for name, value in trial.scores.items():
                writer.add_scalar(name, value, 0)
            status = f"{trial.status}: {trial.reason}" if trial.reason else trial.status
            writer.add_text("status", status)
            for summary in hparams(trial.parameters | {"status": trial.status}, trial.scores):
                writer.file_writer.add_summary(summary)
        temporary.rename(self._place / f"{trial.name}-{trial.key}")


class WeightsAndBiases(Tracker):
    """A run of W&B for each trial, in one group."""

    name = "wandb"

    def check(self) -> None:
        """See `Tracker.check`."""
        try:
            import wandb
        except ImportError:
            raise _missing(self.name) from None
        # Otherwise W&B would ask for the key in the middle of the training.
        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
            raise ValueError(
                "W&B knows no key: run wandb login, or set WANDB_MODE=offline and send the runs "
                "later with wandb sync"
            )

    def connect(self) -> None:
        """See `Tracker.connect`."""
        self._entity, _, self._project = (self.target or "graphnorms").rpartition("/")
        self._place = Path(os.environ.get("WANDB_DIR", self.folder))
        self._there = {path.name.rpartition("-")[2] for path in self._place.glob("wandb/*run-*-*")}

    def _id(self, key: str) -> str:
        """Return the id of a run, unique in its project: a trial can be in two comparisons."""
        return f"{hashlib.sha256(self.folder.name.encode()).hexdigest()[:6]}{key}"

    def has(self, key: str) -> bool:
        """See `Tracker.has`; of what is on W&B's server alone, nothing is known."""
        return self._id(key) in self._there

    def add(self, trial: LoggedTrial) -> None:
        """See `Tracker.add`."""
        import wandb

        run = wandb.init(
            entity=self._entity or None,
            project=self._project,
            group=self.folder.name,
            job_type=trial.stage,
            id=self._id(trial.key),
            name=trial.name,
            config=trial.parameters,
            dir=str(self._place),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )
        length = max(map(len, trial.curves.values()), default=0)
        for epoch in range(length):
            values = {
                name: curve[epoch] for name, curve in trial.curves.items() if epoch < len(curve)
            }
            run.log({"epoch": epoch + 1, **values}, step=epoch + 1)
        run.summary.update({**trial.scores, "status": trial.status, "reason": trial.reason})
        run.finish(exit_code=int(trial.status != "done"))


class MLflow(Tracker):
    """A run of MLflow for each trial, in one experiment."""

    name = "mlflow"
    _KEY: Final = "graphnorms.key"

    def check(self) -> None:
        """See `Tracker.check`."""
        try:
            import mlflow  # noqa: F401
        except ImportError:
            raise _missing(self.name) from None

    def connect(self) -> None:
        """See `Tracker.connect`."""
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._client = client = MlflowClient(self.target or None)
        name = f"graphnorms/{self.folder.name}"
        found = client.get_experiment_by_name(name)
        self._experiment = found.experiment_id if found else client.create_experiment(name)
        self._there: set[str] = set()
        token: str | None = ""
        while token is not None:
            page = client.search_runs([self._experiment], page_token=token or None)
            self._there |= {
                run.data.tags.get(self._KEY, "") for run in page if run.info.status != "RUNNING"
            }
            token = page.token or None

    def has(self, key: str) -> bool:
        """See `Tracker.has`."""
        return key in self._there

    def add(self, trial: LoggedTrial) -> None:
        """See `Tracker.add`."""
        from mlflow.entities import Metric, Param

        tags = {self._KEY: trial.key, "stage": trial.stage, "reason": trial.reason}
        client, now = self._client, int(time.time() * 1000)
        run = client.create_run(self._experiment, run_name=trial.name, tags=tags).info.run_id
        metrics = [
            Metric(name, value, now, epoch)
            for name, values in trial.curves.items()
            for epoch, value in enumerate(values, start=1)
            if value is not None
        ]
        metrics += [Metric(name, value, now, 0) for name, value in trial.scores.items()]
        parameters = [Param(name, str(value)) for name, value in trial.parameters.items()]
        for start in range(0, len(parameters), _PARAMETERS):
            client.log_batch(run, params=parameters[start : start + _PARAMETERS])
        for start in range(0, len(metrics), _BATCH):
            client.log_batch(run, metrics=metrics[start : start + _BATCH])
        client.set_terminated(run, "FINISHED" if trial.status == "done" else "FAILED")


TRACKERS: Final = {each.name: each for each in (TensorBoard, WeightsAndBiases, MLflow)}


def _missing(name: str) -> ImportError:
    return ImportError(f"--log {name} needs: pip install 'graphnorms[{name}]'")
