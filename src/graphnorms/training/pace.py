"""How fast a trial would run, measured on a few of its steps."""

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
        start: From the config to the first step: model and data.
        step: One training step.
        evaluation: Of the validation items.
        steps: How many steps were measured.
        steps_per_epoch: How many an epoch has.
        scoring: Of the training items, in trials that are reported.
    """

    start: float
    step: float
    evaluation: float
    steps: int
    steps_per_epoch: int
    scoring: float = 0.0

    def trial(self, epochs: int, *, reported: bool = True) -> float:
        """Return how long a trial of so many epochs would take, reported or choosing a rate."""
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
    """Train a few steps of a trial and time them; what is learned is thrown away.

    Args:
        config, dataset, factory, norms: Those of `run_trial`.
        steps: How many at most; as many before them warm up.

    Raises:
        ValueError: As `run_trial` does.
    """
    with known_state(config.seed):
        begin = time.perf_counter()
        training = Training(config, dataset, factory, norms)
        started = time.perf_counter()
        training.train_epoch(0, config.learning_rate, at_most=steps)
        warm = time.perf_counter()
        training.train_epoch(0, config.learning_rate, at_most=steps)
        trained = time.perf_counter()
        _, outputs = training.validate()
        evaluated = time.perf_counter()
        training.judge(training.training, outputs)
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
