"""Estimates the run time of a trial from a few of its steps."""

from __future__ import annotations

import time
from dataclasses import dataclass

from graphnorms.data import GraphSet
from graphnorms.process_state import known_state
from graphnorms.training.trial import Training
from graphnorms.training.trial_config import TrialConfig
from graphnorms.training.trial_model import Factory, Norms


@dataclass(frozen=True)
class Pace:
    """Measured times in seconds.

    Args:
        start: Building model and data, before the first step.
        step: One training step.
        evaluation: Evaluating the validation items once.
        steps: Number of measured steps.
        steps_per_epoch: Number of steps of an epoch.
        scoring: Scoring the training items once, in reported trials.
    """

    start: float
    step: float
    evaluation: float
    steps: int
    steps_per_epoch: int
    scoring: float = 0.0

    def trial(self, epochs: int, *, reported: bool = True) -> float:
        """Estimate the time of a trial, either a reported one or one that chooses a rate."""
        evaluation = self.evaluation + (self.scoring if reported else 0.0)
        return self.start + epochs * (self.steps_per_epoch * self.step + evaluation)


def measure_pace(
    config: TrialConfig,
    dataset: GraphSet,
    steps: int = 8,
    *,
    factory: Factory | None = None,
    norms: Norms | None = None,
) -> Pace:
    """Train a few steps of a trial and time them; the model is discarded.

    Args:
        config, dataset, factory, norms: See `run_trial`.
        steps: Maximal number of steps; as many are run before as warm-up.

    Raises:
        ValueError: See `run_trial`.
    """
    with known_state(config.seed):
        begin = time.perf_counter()
        training = Training(config, dataset, factory, norms)
        started = time.perf_counter()
        training.train_epoch(0, at_most=steps)
        warm = time.perf_counter()
        training.train_epoch(0, at_most=steps)
        trained = time.perf_counter()
        _, outputs = training.validate()
        evaluated = time.perf_counter()
        training.score(training.training, training.outputs(training.training, outputs))
        scored = time.perf_counter()
    per_epoch = training.counts()["steps_per_epoch"]
    measured = min(steps, per_epoch)
    return Pace(
        start=started - begin,
        step=(trained - warm) / measured,
        evaluation=evaluated - trained,
        scoring=scored - evaluated,
        steps=measured,
        steps_per_epoch=per_epoch,
    )
