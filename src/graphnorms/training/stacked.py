"""Several trials at once, for devices that one small model leaves idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from graphnorms.data import GraphSet
from graphnorms.data.columns import Encoding
from graphnorms.layers.factory import lookup
from graphnorms.models import GNN
from graphnorms.models.stacked import StackedGNN, is_stackable
from graphnorms.process_state import known_state
from graphnorms.training.config import TrialConfig, content_hash
from graphnorms.training.course import Course, Judged
from graphnorms.training.items import Minibatch
from graphnorms.training.models import build_model, is_own
from graphnorms.training.predictor import Predictor, apply
from graphnorms.training.record import Record
from graphnorms.training.trial import Loop, seed_of_step

_OWN = ("norm", "learning_rate", "weight_decay", "seed", "order_seed")
"""What trials of one stack may differ in, as long as their batches are the same."""


def stack_of(config: TrialConfig) -> str | None:
    """Return what trials must share to be trained at once; None for one that is trained alone.

    All but the norm, the learning rate, the weight decay and the seed, which has to be the same
    where it gives the order of the batches (see `TrialConfig.order_seed`). Models and norms of the
    user's own, and norms that draw random numbers, are alone.
    """
    own = is_own(config.model) or config.norm_source is not None
    if own or not is_stackable(config.norm):
        return None
    shared = {name: value for name, value in config.to_dict().items() if name not in _OWN}
    return content_hash(shared | {"order": config.seed_of_order})


def run_stack(
    configs: Sequence[TrialConfig],
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None = None,
    *,
    merged: bool | None = None,
) -> list[Record]:
    """Train several models side by side and return their records, as `run_trial` would.

    They are those of the trials alone, but for measured times: those of the stack are divided
    among its trials, whose keys are in `timing["stack"]`. Where Linears and norms are merged the
    numbers agree up to rounding only. Rounding grows while a model is trained, and faster where
    the loss does not depend on a weight, as on a bias in front of BatchNorm: its gradient is
    nothing but rounding, of which Adam makes steps. A trial whose loss is not finite fails, and
    does not disturb the others.

    Args:
        configs: The trials, of one `stack_of`.
        dataset: Their data.
        on_epoch: Called after each epoch of the stack.
        merged: Whether Linears and norms of all models are one call each, see
            `graphnorms.models.stacked.StackedGNN`; None: on a GPU, where launches are saved.

    Raises:
        ValueError: The trials cannot be stacked, or one of them raises this in `run_trial`.
    """
    return train_stack(configs, dataset, on_epoch, merged=merged)[0]


def train_stack(
    configs: Sequence[TrialConfig],
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None = None,
    *,
    keep: str | None = None,
    merged: bool | None = None,
) -> tuple[list[Record], Predictor | None]:
    """Run a stack, see `run_stack`, and return the model of one trial's best epoch as well.

    Args:
        configs, dataset, on_epoch, merged: Those of `run_stack`.
        keep: The key of that trial; there is no model of it if it fails.
    """
    with known_state(configs[0].seed):
        return _train_stack(configs, dataset, on_epoch, keep, merged)


def _train_stack(
    configs: Sequence[TrialConfig],
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None,
    keep: str | None,
    merged: bool | None,
) -> tuple[list[Record], Predictor | None]:
    started = time.perf_counter()
    order = sorted(range(len(configs)), key=lambda place: configs[place].norm)
    trial = StackedTraining([configs[place] for place in order], dataset, merged=merged)
    courses = [Course(config, trial.metric) for config in trial.configs]
    count = len(courses)
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
        better = [place for place in running if courses[place].improves(validated[place])]
        tested: Sequence[Judged | None] = [None] * count
        if better and trial.test is not None:
            tested = trial.judge_test(outputs)
        for place in better:
            courses[place].note_best(epoch, validated[place], tested[place])
            if trial.configs[place].key == keep:
                trial.model.write_back()
                courses[place].keep(trial.model.models[place])
        reached: Sequence[float | None] = [None] * count
        if trial.config.scores_training:
            reached = [judged.score for judged in trial.judge_training(outputs)]
        seconds = (between - begin) / count, (time.perf_counter() - between) / count
        for place in running:
            courses[place].note(trained[place], reached[place], validated[place], rates[place])
            courses[place].took(*seconds)
        if on_epoch is not None:
            on_epoch()
    total = (time.perf_counter() - started) / count
    keys = [config.key for config in trial.configs]
    records = {
        key: course.record(trial.counts(place), total, stack=keys)
        for place, (key, course) in enumerate(zip(keys, courses, strict=True))
    }
    predictor = None
    for place, (config, course) in enumerate(zip(trial.configs, courses, strict=True)):
        if course.state and not course.reason:
            model = trial.model.models[place]
            model.load_state_dict(course.state)
            predictor = Predictor(
                model, trial.objective, Encoding.of(dataset), config, records[config.key].outcome,
                norm=trial.norms[place],
            ).eval()  # fmt: skip
    return [records[config.key] for config in configs], predictor


class StackedTraining(Loop[list[Judged], list[float]]):
    """Models, optimizer and data of several trials.

    Args:
        configs, dataset, merged: Those of `run_stack`; trials with the same norm next to each
            other.

    Attributes:
        norms: The texts of the normalizations as they were built.
    """

    model: StackedGNN

    def __init__(
        self, configs: Sequence[TrialConfig], dataset: GraphSet, *, merged: bool | None = None
    ) -> None:
        kinds = {stack_of(config) for config in configs}
        if len(kinds) != 1 or None in kinds:
            raise ValueError(
                f"configs has {len(configs)} trials that do not share their batches, differ in "
                f"more than {', '.join(_OWN)}, or cannot be stacked; run them one by one"
            )
        self.configs = list(configs)
        factors = any("factors" in lookup(config.norm).needs for config in configs)
        super().__init__(configs[0], dataset, factors=factors)
        self.norms = [self._norm(config.norm) for config in configs]
        models: list[GNN] = []
        for config, norm in zip(configs, self.norms, strict=True):
            made = build_model(config.model, norm, dataset, seed=config.seed)
            assert isinstance(made, GNN)
            models.append(made.to(self.device, self.dtype))
        if merged is None:
            merged = self.device.type != "cpu"
        self.model = StackedGNN(models, self.norms, merged=merged)
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
    ) -> list[float]:
        """Train all models on all training items, and return the mean loss of each.

        On a GPU nothing is read back before the end.

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

    def _seed_step(self, epoch: int, step: int) -> None:
        self.model.dropout_seeds = [seed_of_step(each, epoch, step) for each in self.configs]

    def _apply(self, minibatch: Minibatch) -> Tensor:
        return apply(self.model, minibatch.batch, minibatch.factors)

    def _loss(self, output: Tensor, targets: Tensor) -> Tensor:
        complete = self.training.complete
        losses = [self.objective.loss(each, targets, complete=complete) for each in output]
        return torch.stack(losses).sum()

    def _mean_loss(self, outputs: Tensor, targets: Tensor) -> list[float]:
        return [float(self.objective.loss(each, targets)) for each in outputs]

    def _judge(self, outputs: Tensor, targets: Tensor) -> list[Judged]:
        return [self.objective.judge(self.metric.name, each, targets) for each in outputs]
