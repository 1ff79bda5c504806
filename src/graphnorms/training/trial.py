"""One trial: a pure function of its config, except for measured times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Final

import torch
from torch import Tensor, nn

from graphnorms.data import GraphSet, SplitConfig, split_items
from graphnorms.data.feature_columns import Encoding
from graphnorms.layers.factory import needs_of
from graphnorms.models.initialize import derive_seed, seed_draws
from graphnorms.process_state import known_state
from graphnorms.training.flat_optimizer import FlatOptimizer
from graphnorms.training.force_objective import objective_of
from graphnorms.training.interventions import (
    MeansToOutputs,
    by_own_statistics,
    intervention_of,
)
from graphnorms.training.measures import Measuring
from graphnorms.training.metrics import metric_for
from graphnorms.training.minibatches import (
    Items,
    Minibatch,
    SampledItems,
    batch_sizes,
    factors_of,
    require_several,
    sizes_of,
)
from graphnorms.training.optimizer import rate_at
from graphnorms.training.predictor import Predictor, apply
from graphnorms.training.record import Judged, Record, TrialLog
from graphnorms.training.trial_config import TrialConfig
from graphnorms.training.trial_model import (
    Factory,
    Model,
    Norms,
    build_model,
    for_steps,
    is_own,
    norm_of,
)

_MOST_KEPT: Final = 1 << 28
"""Bytes of validation minibatches that are kept from epoch to epoch; larger ones are made anew."""


def run_trial(
    config: TrialConfig,
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None = None,
    *,
    factory: Factory | None = None,
    norms: Norms | None = None,
    measured: bool = True,
) -> Record:
    """Train one model on one split and return the record.

    Weights, batch order and dropout masks have separate seeds derived from that of the trial, so
    trials that differ only in the norm share all three (except for dropout after a `granola`, which
    draws from the same generator). The global generators of Python, NumPy and torch are seeded,
    too. Settings of the process, e.g. the default dtype, have no influence and are restored. A last
    minibatch of a single graph is merged into the one before, because a norm after the readout
    could not normalize it. If the set is a single graph, an epoch is one step, or with
    `num_neighbors` as many as its training nodes make; it is evaluated whole. After each epoch the
    validation items are evaluated in eval mode, and in stage `"final"` the test items if the epoch
    is the best so far. The training score is computed in eval mode after each epoch, except in
    trials that choose a learning rate (`TrialConfig.scores_training`); the training loss is that of
    the steps. A loss that is not finite ends the trial as failed, and its earlier epochs are kept.
    With `patience` the trial can end early, and its history is shorter.

    Args:
        config: Everything that the outcome depends on.
        dataset: The data set named by `config.dataset`.
        on_epoch: Called after each epoch.
        factory: Makes a user-defined model; None imports it by its name.
        norms: Make user-defined norms, by name; others are imported by their names.
        measured: Whether to measure the model of a reported trial, see
            `graphnorms.training.measures`; nothing else depends on it.

    Raises:
        ValueError: `dataset` is not that of the config, or the model, the metric or the split does
            not fit it.
    """
    return train(
        config, dataset, on_epoch, keep=False, factory=factory, norms=norms, measured=measured
    )[0]


def train(
    config: TrialConfig,
    dataset: GraphSet,
    on_epoch: Callable[[], None] | None = None,
    *,
    keep: bool = True,
    factory: Factory | None = None,
    norms: Norms | None = None,
    measured: bool = False,
) -> tuple[Record, Predictor | None]:
    """Run a trial, see `run_trial`; return the record and the model of the best epoch.

    Args:
        config, dataset, on_epoch, factory, norms, measured: See `run_trial`.
        keep: Whether to keep the model; a failed trial has none.
    """
    with known_state(config.seed):
        started = time.perf_counter()
        trial = Training(config, dataset, factory, norms)
        log = TrialLog(config, trial.metric)
        measuring = trial.measuring() if measured and config.is_measured else None
        log.measure("initial", measuring)
        best: dict[str, Tensor] = {}  # the outputs of the best epoch, by part
        for epoch in range(config.epochs):
            begin = time.perf_counter()
            trained, rate = trial.train_epoch(epoch)
            between = time.perf_counter()
            validated, outputs = trial.validate()
            if not log.goes_on(epoch, trained, validated):
                break
            if log.improves(validated):
                best = trial.outputs_of_parts(outputs)
                tested = None if trial.test is None else trial.score(trial.test, best["test"])
                log.note_best(epoch, validated, tested)
                if keep:
                    log.keep(trial.model)
            reached = None
            if config.scores_training:
                reached = trial.score(trial.training, trial.outputs(trial.training, outputs)).score
            log.note(trained, reached, validated, rate)
            log.took(between - begin, time.perf_counter() - between)
            if on_epoch is not None:
                on_epoch()
            if log.is_over(epoch):
                break
        log.measure("final", measuring)
        if not log.reason:
            for part, outputs in best.items():
                log.note_scores(part, *trial.all_scores(part, outputs))
        record = log.record(trial.counts(), time.perf_counter() - started)
        predictor = None
        if log.state and not log.reason:
            trial.model.load_state_dict(log.state)
            predictor = Predictor(
                trial.model,
                trial.objective,
                Encoding.of(dataset),
                config,
                record.outcome,
                norm=trial.norm,
            ).eval()
        return record, predictor


class Training:
    """Model, optimizer and data of one trial.

    Args:
        config, dataset, factory, norms: See `run_trial`.

    Attributes:
        model: The model in training.
        norm: The text of the normalization as built.
        training, validation, test: The items; `test` is None in stages that do not use it.
    """

    def __init__(
        self,
        config: TrialConfig,
        dataset: GraphSet,
        factory: Factory | None = None,
        norms: Norms | None = None,
    ) -> None:
        if dataset.fingerprint != config.fingerprint:
            raise ValueError(
                f"the fingerprint of the data set is {dataset.fingerprint}, expected "
                f"{config.fingerprint}; was the file changed?"
            )
        norm = norm_of(config, norms)
        task = dataset.task
        self.config = config
        self.metric = metric_for(config.metric, task)
        self.device = torch.device(config.device)
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        split = split_items(dataset, SplitConfig(**config.split))
        require_several(split.train, dataset)
        self.objective = objective_of(dataset, split.train, config.force_weight)
        graphs = self.objective.standardized(dataset).to(self.device)
        self._intervention = intervention_of(config)
        if self._intervention.data is not None:
            graphs = self._intervention.data(graphs, Items(graphs, split.train).graph_ids)
        # For a single graph, training and all evaluations share its batch.
        whole = graphs.batch(torch.zeros(1, dtype=torch.int64)) if len(graphs) == 1 else None
        known = factors_of(dataset).to(self.device) if "factors" in needs_of(norm) else None
        self.training = Items(graphs, split.train, whole, known)
        if config.num_neighbors is not None:
            self.training = SampledItems(
                graphs,
                split.train,
                whole,
                known,
                sizes=sizes_of(config.num_neighbors, config.model.get("layers"), dataset),
                seed=config.seed_of_order,
            )
        self.validation = Items(graphs, split.validation, whole, known)
        # Choosing the learning rate must not use the test items.
        tested = config.stage == "final" and split.test.shape[0] > 0
        self.test = Items(graphs, split.test, whole, known) if tested else None
        self._require_judgeable(dataset.y.cpu()[split.validation])
        self._order = torch.Generator().manual_seed(derive_seed(config.seed_of_order, "order"))
        self._validation_batches: list[Minibatch] | None = None
        if self.validation.bytes_of_batches <= _MOST_KEPT:
            self._validation_batches = list(self.validation.minibatches())

        if isinstance(norm, str):
            norm = for_steps(norm, config.epochs * self._steps_per_epoch)
        self.norm = norm if isinstance(norm, str) else norm.name
        made = build_model(config.model, norm, graphs, seed=config.seed, factory=factory)
        self.model: Model = made.to(self.device, self.dtype)
        if self._intervention.model is not None:
            self._intervention.model(self.model)
        self._means: MeansToOutputs | None = None
        if self._intervention.means:
            self._means = MeansToOutputs(self.training, task.outputs, seed=config.seed)
            self._means.to(self.device, self.dtype)
        self._whole_set: Minibatch | None = None
        if self._intervention.whole_set:
            self._whole_set = self.training.minibatch(self.training.graph_ids)
        self._optimizer = FlatOptimizer(
            config.optimizer,
            [*self.model.parameters(), *(self._means or nn.Module()).parameters()],
            config.learning_rate,
            config.weight_decay,
            flat=not is_own(config.model) and isinstance(norm, str),
        )

    def train_epoch(self, epoch: int, *, at_most: int | None = None) -> tuple[float, float]:
        """Train one epoch, and return the mean loss and the learning rate of the last step.

        A GPU is synchronized only at the end.

        Args:
            epoch: From 0.
            at_most: Maximal number of steps.
        """
        rate = math.nan
        self.model.train()
        shuffled = self.training.shuffled
        order = torch.randperm(shuffled.shape[0], generator=self._order)
        outputs, targets = [], []
        batches = order.split(batch_sizes(len(order), self.config.batch_size))
        complete = self.training.complete
        for step, places in enumerate(batches[:at_most]):
            rate = rate_at(self.config, epoch, step, len(batches))
            seed_draws(self.device, derive_seed(self.config.seed, "dropout", epoch, step))
            minibatch = self.training.training_minibatch(shuffled[places], epoch, step)
            self._optimizer.forget_gradients()
            with self._optimizer.joined():
                if self._whole_set is None:
                    output = self._apply(minibatch)
                else:
                    output = self._apply(self._whole_set)[self.training.rows_of(places)]
            self.objective.loss(output, minibatch.targets, complete=complete).backward()
            self._optimizer.step(rate, self.config.clip)
            outputs.append(output.detach())
            targets.append(minibatch.targets)
        return float(self.objective.loss(torch.cat(outputs), torch.cat(targets))), rate

    def validate(self) -> tuple[Judged, Tensor]:
        """Return loss and score of the validation items in eval mode, and the outputs."""
        batches = self._validation_batches
        outputs = self._evaluate(self.validation.minibatches() if batches is None else batches)
        return self.score(self.validation, outputs), outputs

    def outputs(self, items: Items, validation_outputs: Tensor) -> Tensor:
        """Return the outputs for the items of a part in eval mode.

        Args:
            items: `training`, `validation` or `test`.
            validation_outputs: The outputs from `validate`, reused if both parts are nodes of the
                same graphs.
        """
        if torch.equal(items.graph_ids, self.validation.graph_ids):
            return validation_outputs
        return self._evaluate(items.minibatches())

    def outputs_of_parts(self, validation_outputs: Tensor) -> dict[str, Tensor]:
        """Return the outputs for the parts that a record scores, by name."""
        found = {"validation": validation_outputs}
        if self.test is not None:
            found["test"] = self.outputs(self.test, validation_outputs)
        return found

    def score(self, items: Items, outputs: Tensor) -> Judged:
        """Return loss and score of the items of a part, given their outputs."""
        return self.objective.judge(self.metric.name, outputs, items.minibatch_targets)

    def all_scores(self, part: str, outputs: Tensor) -> tuple[dict[str, float], dict[str, float]]:
        """Return the scores of a part by every metric, and of each target, given its outputs.

        Args:
            part: `"validation"` or `"test"`.
            outputs: Of its items.
        """
        items = self.validation if part == "validation" or self.test is None else self.test
        return self.objective.all_scores(self.metric.name, outputs, items.minibatch_targets)

    def measuring(self) -> Measuring:
        """Return what measures the model, see `graphnorms.training.measures`."""
        others = [self.validation] if self.test is None else [self.validation, self.test]
        return Measuring(self.model, self.objective, self.config, self.training, others)

    def counts(self) -> dict[str, int]:
        """Return the counts of the record."""
        return {
            "parameters": self.model.num_parameters(),
            "train_items": len(self.training),
            "validation_items": len(self.validation),
            "test_items": 0 if self.test is None else len(self.test),
            "steps_per_epoch": self._steps_per_epoch,
        }

    @property
    def _steps_per_epoch(self) -> int:
        return len(batch_sizes(self.training.shuffled.shape[0], self.config.batch_size))

    def _apply(self, minibatch: Minibatch) -> Tensor:
        outputs = apply(self.model, minibatch.batch, minibatch.factors)
        return outputs if self._means is None else outputs + self._means(minibatch.batch)

    def _evaluate(self, batches: Iterable[Minibatch]) -> Tensor:
        """Return the outputs of the model for some minibatches in eval mode."""
        self.model.eval()
        own = by_own_statistics(self.model) if self._intervention.own_statistics else nullcontext()
        with own, torch.no_grad():
            return torch.cat([self._apply(each) for each in batches])

    def _require_judgeable(self, targets: Tensor) -> None:
        """Refuse a split on which the validation score is undefined."""
        rows = self.validation.minibatch_targets
        zeros = torch.zeros(rows.shape[0], self.objective.columns, device=self.device)
        judged = self.objective.judge(self.metric.name, zeros, rows)
        if math.isnan(judged.score):
            targets = torch.unique(targets)
            are = f", which are all {targets[0]:g}" if targets.shape[0] == 1 else ""
            raise ValueError(
                f"{self.metric.title} is undefined for the {len(self.validation)} validation "
                f"items{are}; choose another split or metric"
            )


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Set the number of threads of torch, and so of the kernels, inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
