"""How long a comparison would take, from a few training steps of every norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphnorms.lab.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a comparison is expected to take.

    Args:
        seconds: Of all its trials, so many at a time as the plan says.
        steps: Training steps that were measured, per norm.
        quickest, slowest: Seconds per step, of the norms.
    """

    seconds: float
    steps: int
    quickest: float
    slowest: float


def estimate(plan: Plan) -> Expectation:
    """Measure a few training steps of every norm, one thread, and add up the trials.

    Trials that run at a time share a machine's memory and caches, and on dask its workers decide
    how many there are: the true time can be half as long again.
    """
    from graphnorms.training import measure_pace, threads

    settings = plan.settings
    configs = {config.norm: config for config in plan.schedule.known(lambda key: None)}
    with threads(1):  # as in a worker
        paces = {norm: measure_pace(config, plan.dataset) for norm, config in configs.items()}
    per_norm = settings.planned // len(settings.norms)
    total = per_norm * sum(pace.trial(settings.epochs) for pace in paces.values())
    return Expectation(
        seconds=total / plan.workers,
        steps=min(pace.steps for pace in paces.values()),
        quickest=min(pace.step for pace in paces.values()),
        slowest=max(pace.step for pace in paces.values()),
    )
