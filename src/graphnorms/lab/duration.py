"""How long a comparison would take, from a few training steps of every norm."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from graphnorms.lab.agenda import Agenda
from graphnorms.lab.engines.attempt import reason_of
from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    from graphnorms.lab.plan import Plan
    from graphnorms.lab.settings import Settings
    from graphnorms.training import Pace, Record

_START_OF_A_PROCESS: Final = 2.0  # seconds: Python, torch and graphnorms


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What a comparison is expected to take.

    Args:
        seconds: Of the trials that are to be run, so many at a time as the plan says.
        steps: Training steps that were measured, per norm.
        quickest, slowest: Seconds per step, of the norms.
        failing: Why norms could not be measured, by name: the user's own model may not run with
            every norm. Their trials fail at once.
        paces: What was measured, by norm.
    """

    seconds: float
    steps: int
    quickest: float
    slowest: float
    failing: Mapping[str, str] = field(default_factory=dict)
    paces: Mapping[str, Pace] = field(default_factory=dict)


def estimate(plan: Plan, kept: Iterable[Record] = ()) -> Expectation:
    """Measure a few training steps of every norm, one thread, and add up the trials.

    Trials that run at a time share a machine's memory and caches, and on dask its workers decide
    how many there are: the true time can be half as long again.

    Args:
        plan: What is going to be done.
        kept: Outcomes of trials that are not run again.

    Raises:
        ValueError: Code of the user's fails with every norm.
    """
    from graphnorms.training import measure_pace, threads
    from graphnorms.user_code import no_exit

    settings = plan.settings
    configs = {config.treatment: config for config in Agenda(plan.schedule).known()}
    if settings.search:  # sizes in the middle of what is searched
        middle = {name: one.at(0.5) for name, one in settings.space.items()}
        configs = {name: plan.schedule.tried(name, 0, middle) for name in configs}
    paces: dict[str, Pace] = {}
    failing: dict[str, str] = {}
    with threads(1):  # as in a worker
        for norm, config in configs.items():
            try:
                with no_exit(str(config.model.get("name"))):
                    paces[norm] = measure_pace(
                        config, plan.dataset, factory=plan.function, norms=plan.norm_functions
                    )
            except Exception as error:
                if not plan.runs_own_code:
                    raise
                failing[norm] = reason_of(error)
                if len(failing) == len(configs):
                    raise ValueError(
                        f"a training step fails with every {settings.noun}; with {norm}: "
                        f"{failing[norm]}"
                    ) from error
    return Expectation(
        seconds=seconds_of_trials(settings, paces, plan, kept),
        failing=failing,
        steps=min(pace.steps for pace in paces.values()),
        quickest=min(pace.step for pace in paces.values()),
        slowest=max(pace.step for pace in paces.values()),
        paces=paces,
    )


def seconds_of_trials(
    settings: Settings, paces: Mapping[str, Pace], plan: Plan, kept: Iterable[Record] = ()
) -> float:
    """Add up the trials of a comparison, so many at a time as a plan says.

    Args:
        settings: The comparison; it may be smaller than that of the plan.
        paces: What was measured, by norm.
        plan: Where trials run.
        kept: Outcomes of trials that are not run again.
    """
    done = Counter((treatment_of(r.config), r.config["stage"] == "select") for r in kept)
    total = sum(
        (settings.selection_trials - done[norm, True])
        * pace.trial(math.ceil(settings.selection_epochs), reported=False)
        + (settings.reported_trials - done[norm, False]) * pace.trial(settings.epochs)
        for norm, pace in paces.items()
    )
    if plan.runs_own_code:  # each trial has a process of its own
        total += (settings.planned - done.total()) * _START_OF_A_PROCESS
    return total / plan.workers
