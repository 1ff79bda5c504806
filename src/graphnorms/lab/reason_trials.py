"""Runs the trials that test the reasons for the differences of a finished comparison."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from graphnorms.lab.progress import Clock, Outcomes, Status, log_trial

if TYPE_CHECKING:
    from graphnorms.lab.comparison import Comparison
    from graphnorms.lab.plan import Plan
    from graphnorms.lab.run import Run
    from graphnorms.training import Record

_log = logging.getLogger(__name__)


def run_reason_trials(
    plan: Plan, run: Run, comparison: Comparison, progress: Callable[[Status], None]
) -> None:
    """Run those without an outcome, and keep each record at once; none before the verdict's.

    Args:
        plan: The plan.
        run: Its folder.
        comparison: What the folder has.
        progress: See `graphnorms.compare`.
    """
    if len(comparison.records) < comparison.planned or comparison.why is None:
        return
    configs = comparison.why.to_run()
    total = sum(config.key not in run.journal for config in configs)
    if not total:
        return
    _log.info("%d more trials test reasons", total)
    clock = Clock(epochs=plan.settings.epochs * total)
    outcomes = Outcomes(comparison.records)
    done = dict.fromkeys(plan.settings.treatments, plan.settings.epochs_of_norm)
    ended = 0

    def tell(epochs: Mapping[str, int], latest: Record | None = None) -> None:
        clock.note(plan.settings.epochs * ended + sum(epochs.values()))
        status = Status(
            plan=plan,
            outcomes=outcomes,
            ended=len(outcomes),
            tallies=outcomes.tallies,
            latest=latest,
            epochs=done,
            elapsed=clock.elapsed,
            remaining=clock.remaining,
            tests=(ended, total),
        )
        log_trial(_log, status)
        progress(status)

    engine = plan.engine(total)
    records = run.complete(engine, configs, tell)
    with engine, closing(records):
        for record in records:
            ended += 1
            tell({}, record)
