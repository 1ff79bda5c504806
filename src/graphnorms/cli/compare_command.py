"""The command `compare`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from graphnorms import interrupts
from graphnorms.cli import complain
from graphnorms.cli.option_parameters import Dataset, takes_options
from graphnorms.cli.terminal import terminal
from graphnorms.lab.options import Options


@takes_options()
def compare(
    dataset: Dataset = None,
    *,
    options: Options,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan and the time it would take; train nothing."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON, and nothing else.")
    ] = False,
) -> int:
    """Train a model with each normalization, all else equal, and judge the difference.

    Each norm gets the learning rate that is best for it on validation data, and is scored on test
    data with fresh seeds. Finished trials are kept in the run's folder: the same command, or
    --resume, continues after an interruption.
    """
    with interrupts.loading():
        import graphnorms.training  # noqa: F401 - loaded here, where Ctrl-C leaves at once
        from graphnorms.cli.display import Display
        from graphnorms.lab.compare import compare as run
        from graphnorms.lab.comparison import ComparisonInterrupted, ReportError

    if dry_run:
        _show_plan(dataset, options, as_json=as_json)
        return 0
    with Display(terminal(stderr=as_json), quiet_in_pipes=as_json) as display:
        problem, code = "", 0
        try:
            comparison = run(dataset, **vars(options), progress=display)
        except (ComparisonInterrupted, ReportError) as caught:
            comparison, problem = caught.comparison, str(caught)
            code = caught.code if isinstance(caught, ComparisonInterrupted) else 1
    if as_json:
        print(json.dumps(comparison.to_dict(), indent=2, allow_nan=False))
    else:
        display.show_outcome(comparison)
    if problem:
        complain(problem)
        return code
    return 0 if any(record.status == "done" for record in comparison.records) else 1


def _show_plan(dataset: str | None, options: Options, *, as_json: bool) -> None:
    """Print what a comparison would do; nothing is written."""
    from graphnorms.cli.stopwatch import duration
    from graphnorms.lab.compare import prepare
    from graphnorms.lab.duration import estimate
    from graphnorms.lab.plan_sentences import kept_lines, plan_lines
    from graphnorms.lab.run import standing
    from graphnorms.lab.schedule import Agenda

    plan, config = prepare(dataset, options)
    there = standing(plan.folder, config)
    kept = Agenda(plan.schedule, there.records.values()).records()
    if as_json:
        found = estimate(plan, kept)
        outcome = {
            "settings": config,
            "trials": plan.settings.planned,
            "there": len(kept),
            "changes": there.change.words,
            "refused": there.change.refusal,
            "seconds": found.seconds,
            "failing": dict(found.failing),
            "folder": str(plan.folder),
            "command": plan.command,
        }
        print(json.dumps(outcome, indent=2, allow_nan=False))
        return
    console = terminal(highlight=False)
    said = kept_lines(plan.folder, there.change.words, len(kept), plan.settings.planned)
    console.print("\n".join([*plan_lines(plan), *said]), markup=False)
    if there.change.refusal:
        console.print(f"Refused as it is: {there.change.refusal}", markup=False)
    if len(kept) == plan.settings.planned:
        return
    found = estimate(plan, kept)
    console.print(
        f"About {duration(found.seconds)}, from {found.steps} training steps of every "
        f"{plan.settings.noun}: "
        f"{found.quickest * 1e3:.1f} to {found.slowest * 1e3:.1f} ms a step.",
        markup=False,
    )
    for norm, reason in found.failing.items():
        console.print(f"The model does not run with {norm}: {reason}", markup=False)
