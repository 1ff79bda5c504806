"""One trial: a pure function of its config, measured times aside."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from graphnorms.data import GraphSet, SplitConfig, split_items
from graphnorms.layers.factory import lookup
from graphnorms.models import derive_seed
from graphnorms.training.config import TrialConfig
from graphnorms.training.items import Items, Minibatch, factors_of
from graphnorms.training.metrics import Metric, metric_named, score
from graphnorms.training.models import Factory, build_model
from graphnorms.training.objective import Objective
from graphnorms.training.predictor import Predictor, apply, save_checkpoint
from graphnorms.training.record import Record

_HISTORY: Final = (
    "train_loss", "train_score", "validation_loss", "validation_score", "learning_rate",
)  # fmt: skip
Judged = tuple[float, float]
"""Loss and score."""


def run_trial(
    config: TrialConfig,
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None = None,
    *,
    checkpoint: Path | None = None,
    factory: Factory | None = None,
) -> Record:
    """Train one model on one split and return what happened.

    Weights, batch order and dropout masks come from the seed, each from a stream of its own, so
    that trials that differ in the norm only see the same of all three. Where the set is a single
    graph an epoch is one step on all of it. After each epoch the validation items are evaluated
    in eval mode, and in stage `"final"` the test items where that is the best epoch so far; the
    training loss and score are of what training computed anyway. A loss that is not finite ends
    the trial as failed, with the epochs before it kept.

    Args:
        config: Everything that the outcome depends on.
        dataset: The data that `config.dataset` names.
        on_epoch: Called after each epoch.
        checkpoint: Where the model of the best epoch is written, see `load_model`; nowhere if
            not given, or if the trial fails.
        factory: Makes the model where it is the user's own; None finds it by its name.

    Raises:
        ValueError: `dataset` is not the data of the config, or the model, the metric or the split
            does not suit it.
    """
    record, predictor = train(
        config, dataset, on_epoch, keep=checkpoint is not None, factory=factory
    )
    if checkpoint is not None and predictor is not None:
        save_checkpoint(checkpoint, predictor)
    return record


def train(
    config: TrialConfig,
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None = None,
    *,
    keep: bool = True,
    factory: Factory | None = None,
) -> tuple[Record, Predictor | None]:
    """Run a trial, see `run_trial`, and return the model of its best epoch beside the record.

    Args:
        config, dataset, on_epoch, factory: Those of `run_trial`.
        keep: Whether to keep the model; there is none either if the trial fails.
    """
    started = time.perf_counter()
    trial = Training(config, dataset, factory)
    history: dict[str, list[float]] = {name: [] for name in _HISTORY}
    timing: dict[str, Any] = {"train": [], "evaluation": []}
    best: dict[str, float] = {}
    state: dict[str, Tensor] = {}
    reason = ""
    for epoch in range(config.epochs):
        begin = time.perf_counter()
        rate = _learning_rate(config, epoch)
        trained = trial.train_epoch(epoch, rate)
        between = time.perf_counter()
        validated, outputs = trial.validate()
        reason = _failure(trained, validated, epoch)
        if reason:
            break
        if config.stage == "paper":
            trained = (trained[0], trial.evaluate_training())
        if _is_better(trial.metric, validated, best):
            best = {"epoch": epoch + 1, "validation_score": validated[1]}
            best["validation_loss"] = validated[0]
            if trial.test is not None:
                best["test_loss"], best["test_score"] = trial.judge_test(outputs)
            if keep:
                state = {name: value.clone() for name, value in trial.model.state_dict().items()}
        for name, value in zip(_HISTORY, (*trained, *validated, rate), strict=True):
            history[name].append(value)
        timing["train"].append(between - begin)
        timing["evaluation"].append(time.perf_counter() - between)
        if on_epoch is not None:
            on_epoch()
    predictor = None
    if state and not reason:
        trial.model.load_state_dict(state)
        predictor = Predictor(trial.model, trial.objective, dataset.task, config).eval()
    timing["total"] = time.perf_counter() - started
    record = Record(
        key=config.key,
        config=config.to_dict(),
        status="failed" if reason else "done",
        reason=reason,
        history=history,
        outcome={} if reason else best,
        counts=trial.counts(),
        environment=_environment(config),
        timing=timing,
    )
    return record, predictor


class Training:
    """Model, optimizer and data of one trial.

    Args:
        config, dataset, factory: Those of `run_trial`.
    """

    def __init__(
        self, config: TrialConfig, dataset: GraphSet, factory: Factory | None = None
    ) -> None:
        if dataset.fingerprint != config.fingerprint:
            raise ValueError(
                f"the data set has the fingerprint {dataset.fingerprint}, but the trial is about "
                f"{config.fingerprint}; was the file changed?"
            )
        task = dataset.task
        self.config = config
        self.metric = metric_named(config.metric, task.kind)
        self.device = torch.device(config.device)
        dtype = getattr(torch, config.dtype)
        split = split_items(dataset, SplitConfig(**config.split))
        graphs = dataset.to(self.device)
        # Where there is one graph, training and all evaluations share its batch.
        whole = graphs.batch(torch.zeros(1, dtype=torch.int64)) if len(graphs) == 1 else None
        factors = None
        if "factors" in lookup(config.norm).needs:
            factors = factors_of(dataset).to(self.device)
        self.training = Items(graphs, split.train, whole, factors)
        self.validation = Items(graphs, split.validation, whole, factors)
        # What chooses the learning rate does not look at the test items.
        tested = config.stage == "final" and split.test.shape[0] > 0
        self.test = Items(graphs, split.test, whole, factors) if tested else None
        self._require_judgeable(task.kind, task.outputs)
        model = build_model(config.model, config.norm, dataset, seed=config.seed, factory=factory)
        self.model = model.to(self.device, dtype)
        self.objective = Objective.of(task, self.training.targets, dtype)
        self._parameters = list(self.model.parameters())
        self._optimizer = torch.optim.Adam(
            self._parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._order = torch.Generator().manual_seed(derive_seed(config.seed, "order"))
        self._validation_batches = list(self.validation.minibatches())
        self._training_batches: list[Minibatch] = []
        self._test_is_seen = self.test is not None and torch.equal(
            self.test.graph_ids, self.validation.graph_ids
        )

    def train_epoch(self, epoch: int, rate: float, *, at_most: int | None = None) -> Judged:
        """Train on all training items; on a GPU nothing is read back before the end.

        Args:
            epoch: From 0.
            rate: The learning rate.
            at_most: Steps after which to stop.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        graph_ids = self.training.graph_ids
        order = torch.randperm(graph_ids.shape[0], generator=self._order)
        outputs, targets = [], []
        batches = graph_ids[order].split(self.config.batch_size)[:at_most]
        for step, ids in enumerate(batches):
            _seed(self.device, derive_seed(self.config.seed, "dropout", epoch, step))
            batch, wanted, factors = self.training.minibatch(ids)
            for parameter in self._parameters:
                parameter.grad = None
            output = apply(self.model, batch, factors)
            loss = self.objective.loss(output, wanted, complete=self.training.complete)
            loss.backward()
            self._optimizer.step()
            outputs.append(output.detach())
            targets.append(wanted)
        return self._judge(torch.cat(outputs), torch.cat(targets))

    def validate(self) -> tuple[Judged, Tensor]:
        """Return loss and score of the validation items in eval mode, and the model's outputs."""
        outputs, judged = self._evaluate(self._validation_batches)
        return judged, outputs

    def evaluate_training(self) -> float:
        """Return the score of the training items in eval mode, as the codes of the papers do."""
        if not self._training_batches:
            self._training_batches = list(self.training.minibatches())
        return self._evaluate(self._training_batches)[1][1]

    def judge_test(self, validation_outputs: Tensor) -> Judged:
        """Return loss and score of the test items in eval mode.

        Args:
            validation_outputs: What `validate` computed; enough where nodes of the same graphs
                validate and test.
        """
        assert self.test is not None
        if self._test_is_seen:
            return self._judge(validation_outputs, self.test.minibatch_targets)
        return self._evaluate(list(self.test.minibatches()))[1]

    def counts(self) -> dict[str, int]:
        """Return the counts of the record."""
        graphs = self.training.graph_ids.shape[0]
        return {
            "parameters": self.model.num_parameters(),
            "train_items": len(self.training),
            "validation_items": len(self.validation),
            "test_items": 0 if self.test is None else len(self.test),
            "steps_per_epoch": -(-graphs // self.config.batch_size),
        }

    def _evaluate(self, batches: list[Minibatch]) -> tuple[Tensor, Judged]:
        self.model.eval()
        with torch.no_grad():
            outputs = torch.cat([apply(self.model, each.batch, each.factors) for each in batches])
        return outputs, self._judge(outputs, torch.cat([each.targets for each in batches]))

    def _judge(self, outputs: Tensor, targets: Tensor) -> Judged:
        return self.objective.judge(self.metric.name, outputs, targets)

    def _require_judgeable(self, kind: str, outputs: int) -> None:
        """Refuse a split that leaves nothing to choose an epoch by."""
        zeros = torch.zeros(len(self.validation), outputs, device=self.device)
        if math.isnan(score(self.metric.name, kind, zeros, self.validation.targets)):
            raise ValueError(
                f"{self.metric.title} says nothing on the {len(self.validation)} validation items "
                f"of the split, expected targets to compare; choose another split or metric"
            )


def _learning_rate(config: TrialConfig, epoch: int) -> float:
    """Return the step size of an epoch: falling linearly to 0 after the last, or constant."""
    if config.schedule == "linear":
        return config.learning_rate * (1 - epoch / config.epochs)
    return config.learning_rate


def _seed(device: torch.device, seed: int) -> None:
    """Seed what dropout and norms draw from, as `torch.manual_seed` does."""
    if device.type == "cpu":
        # That one keeps a traceback of every call for a GPU that may be started later.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _failure(trained: Judged, validated: Judged, epoch: int) -> str:
    """Say which loss was not finite, if one was not."""
    for which, (loss, _) in (("training", trained), ("validation", validated)):
        if not math.isfinite(loss):
            return f"the {which} loss was not finite in epoch {epoch + 1}"
    return ""


def _is_better(metric: Metric, judged: Judged, best: dict[str, float]) -> bool:
    """Whether a validation is better than the best so far: by score, then by loss."""
    loss, value = judged
    if not best or value == best["validation_score"]:
        return not best or loss < best["validation_loss"]
    return metric.better(value, best["validation_score"])


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
