"""How long trials of user code take: a whole one of every treatment is run first.

Code of the user's trains as long as it does, which is not known before it has. What fits into a
time is then the number of such trials; what one of them does is not cut. The pilots' records are
thrown away: the trials of the run are those of the plan as it is cut.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from graphnorms.lab.agenda import Agenda
from graphnorms.lab.engines.attempt import TIMED_OUT
from graphnorms.lab.phrases import duration
from graphnorms.training.trial_config import treatment_of

if TYPE_CHECKING:
    from graphnorms.lab.plan import Plan
    from graphnorms.training import Pace


_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """What the first trials took.

    Args:
        paces: Of the treatments whose trial was done, by name.
        seconds: Of all of them together, as many at a time as the run has.
    """

    paces: Mapping[str, Pace]
    seconds: float


def run_pilot(plan: Plan, limit: float) -> Pilot:
    """Run the first trial of every treatment, where and as many at a time as the run does.

    Args:
        plan: The comparison.
        limit: Seconds that there are.

    Raises:
        ValueError: A trial takes longer than that, or all fail.
        GraphnormsError: There are no processes to run trials in.
    """
    from graphnorms.training import Pace

    first = {config.treatment: config for config in reversed(Agenda(plan.schedule).known())}
    timeout = min(limit, plan.options.timeout or limit)
    beside = plan.folder.with_name(f".{plan.folder.name}.pilot")
    beside.mkdir(parents=True, exist_ok=True)
    _log.warning("a trial of every %s is run first, to time it", plan.settings.noun)
    begun = time.perf_counter()
    try:
        engine = replace(plan, folder=beside).engine(len(first), timeout)
        with engine, closing(engine.run(first.values())) as ended:
            records = list(ended)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for record in records:
        if record.reason.startswith(TIMED_OUT):
            raise ValueError(
                f"time {duration(limit)} is too short: one trial of "
                f"{treatment_of(record.config)} takes more than {duration(timeout)}"
            )
    paces = {
        treatment_of(record.config): Pace(
            start=record.timing["total"], step=0.0, evaluation=0.0, steps=1, steps_per_epoch=0
        )
        for record in records
        if record.status == "done"
    }
    if not paces:
        raise ValueError(
            f"the first trial of every {plan.settings.noun} failed: {records[0].reason}"
        )
    return Pilot(paces=paces, seconds=time.perf_counter() - begun)
