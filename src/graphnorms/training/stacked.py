"""Several trials at once, for devices that one small model leaves idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from graphnorms.data import GraphSet
from graphnorms.layers.factory import lookup
from graphnorms.models import GNN
from graphnorms.models.stacked import StackedGNN, is_stackable
from graphnorms.training.config import TrialConfig, content_hash
from graphnorms.training.course import Course, Judged
from graphnorms.training.items import Minibatch
from graphnorms.training.models import build_model, is_own
from graphnorms.training.predictor import Predictor, apply
from graphnorms.training.record import Record
from graphnorms.training.trial import Loop

_OWN = ("norm", "learning_rate", "weight_decay")
"""What trials of one stack may differ in."""


def stack_of(config: TrialConfig) -> str | None:
    """Return what trials must share to be trained at once; None for one that is trained alone.

    All but the norm, the learning rate and the weight decay: the seed, too, for it gives the order
    of the batches. Models of the user's own, and norms that draw random numbers, are alone.
    """
    if is_own(config.model) or not is_stackable(config.norm):
        return None
    shared = {name: value for name, value in config.to_dict().items() if name not in _OWN}
    return content_hash(shared)


def run_stack(
    configs: Sequence[TrialConfig],
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None = None,
) -> list[Record]:
    """Train several models side by side and return their records, as `run_trial` would.

    Up to rounding they are those of the trials alone, but for measured times: those of the stack
    are divided among its trials, whose keys are in `timing["stack"]`. A trial whose loss is not
    finite fails, and does not disturb the others.

    Args:
        configs: The trials, of one `stack_of`.
        dataset: Their data.
        on_epoch: Called after each epoch of the stack.

    Raises:
        ValueError: The trials cannot be stacked, or one of them raises this in `run_trial`.
    """
    return train_stack(configs, dataset, on_epoch)[0]


def train_stack(
    configs: Sequence[TrialConfig],
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None = None,
    *,
    keep: str | None = None,
) -> tuple[list[Record], Predictor | None]:
    """Run a stack, see `run_stack`, and return the model of one trial's best epoch as well.

    Args:
        configs, dataset, on_epoch: Those of `run_stack`.
        keep: The key of that trial; there is no model of it if it fails.
    """
    started = time.perf_counter()
    order = sorted(range(len(configs)), key=lambda place: configs[place].norm)
    trial = StackedTraining([configs[place] for place in order], dataset)
    courses = [Course(config, trial.metric) for config in trial.configs]
    count = len(courses)
    stage = trial.config.stage
    for epoch in range(trial.config.epochs):
        begin = time.perf_counter()
        rates = [course.rate(epoch) for course in courses]
        trained = trial.train_epoch(epoch, rates)
        between = time.perf_counter()
        validated, outputs = trial.validate()
        running = [
            place
            for place, course in enumerate(courses)
            if not course.reason and course.goes_on(epoch, trained[place], validated[place])
        ]
        if not running:
            break
        if stage == "paper":
            scores = [score for _, score in trial.judge_training()]
            trained = [(loss, score) for (loss, _), score in zip(trained, scores, strict=True)]
        better = [place for place in running if courses[place].improves(validated[place])]
        tested: Sequence[Judged | None] = [None] * count
        if better and trial.test is not None:
            tested = trial.judge_test(outputs)
        for place in better:
            courses[place].note_best(epoch, validated[place], tested[place])
            if trial.configs[place].key == keep:
                trial.model.write_back()
                courses[place].keep(trial.model.models[place])
        seconds = (between - begin) / count, (time.perf_counter() - between) / count
        for place in running:
            courses[place].note(trained[place], validated[place], rates[place], *seconds)
        if on_epoch is not None:
            on_epoch()
    total = (time.perf_counter() - started) / count
    keys = [config.key for config in trial.configs]
    records = {
        key: course.record(trial.counts(place), total, stack=keys)
        for place, (key, course) in enumerate(zip(keys, courses, strict=True))
    }
    predictor = None
    for config, course, model in zip(trial.configs, courses, trial.model.models, strict=True):
        if course.state and not course.reason:
            model.load_state_dict(course.state)
            predictor = Predictor(model, trial.objective, dataset.task, config).eval()
    return [records[config.key] for config in configs], predictor


class StackedTraining(Loop[list[Judged]]):
    """Models, optimizer and data of several trials.

    Args:
        configs, dataset: Those of `run_stack`; trials with the same norm next to each other.
    """

    model: StackedGNN

    def __init__(self, configs: Sequence[TrialConfig], dataset: GraphSet) -> None:
        kinds = {stack_of(config) for config in configs}
        if len(kinds) != 1 or None in kinds:
            raise ValueError(
                f"configs has {len(configs)} trials that differ in more than "
                f"{', '.join(_OWN)}, or cannot be stacked; run them one by one"
            )
        self.configs = list(configs)
        norms = [config.norm for config in configs]
        super().__init__(
            configs[0], dataset, factors=any("factors" in lookup(norm).needs for norm in norms)
        )
        models: list[GNN] = []
        for config in configs:
            made = build_model(config.model, config.norm, dataset, seed=config.seed)
            assert isinstance(made, GNN)
            models.append(made.to(self.device, self.dtype))
        self.model = StackedGNN(models, norms)
        self._parameters = [each for model in models for each in model.parameters()]
        groups: list[dict[str, Any]] = [
            {
                "params": list(model.parameters()),
                "lr": config.learning_rate,
                "weight_decay": config.weight_decay,
            }
            for model, config in zip(models, configs, strict=True)
        ]
        self._optimizer = torch.optim.Adam(groups, fused=True)

    def train_epoch(
        self, epoch: int, rates: Sequence[float], *, at_most: int | None = None
    ) -> list[Judged]:
        """Train all models on all training items; on a GPU nothing is read back before the end.

        Args:
            epoch: From 0.
            rates: The learning rate of each.
            at_most: Steps after which to stop.
        """
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return self._train_epoch(epoch, at_most)

    def counts(self, place: int) -> dict[str, int]:
        """Return the counts of the record of one of the trials."""
        return self._counts(self.model.models[place].num_parameters())

    def _apply(self, minibatch: Minibatch) -> Tensor:
        return apply(self.model, minibatch.batch, minibatch.factors)

    def _loss(self, output: Tensor, targets: Tensor) -> Tensor:
        complete = self.training.complete
        losses = [self.objective.loss(each, targets, complete=complete) for each in output]
        return torch.stack(losses).sum()

    def _judge(self, outputs: Tensor, targets: Tensor) -> list[Judged]:
        return [self.objective.judge(self.metric.name, each, targets) for each in outputs]
