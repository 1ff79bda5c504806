"""The command `compare`."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import Annotated, Final

import typer

from graphnorms import interrupts
from graphnorms.cli import complain
from graphnorms.cli.logs import LogFile, Quiet, Verbose, logs
from graphnorms.cli.option_parameters import PANELS, Dataset, takes_options
from graphnorms.cli.terminal import by_subject, terminal
from graphnorms.lab.options import Options

_LONG: Final = 3600.0
"""Seconds above which a dry run says what would fit into them."""

_PANEL: Final = PANELS["output"]


@takes_options()
def compare(
    dataset: Dataset = None,
    *,
    options: Options,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the plan and the time it would take; train nothing.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the outcome as JSON, and nothing else.", rich_help_panel=_PANEL
        ),
    ] = False,
    log_file: LogFile = None,
    verbose: Verbose = False,
    quiet: Quiet = False,
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
        from graphnorms.lab.comparison_errors import ComparisonInterrupted, ReportError

    if dry_run:
        _show_plan(dataset, options, as_json=as_json)
        return 0
    display = Display(
        terminal(stderr=as_json), quiet_in_pipes=as_json, quiet=quiet, verbose=verbose
    )
    with logs(display.console, log_file, verbose=verbose, quiet=quiet), display:
        problem, code = "", 0
        try:
            comparison = run(dataset, **vars(options), progress=display)
        except (ComparisonInterrupted, ReportError) as caught:
            comparison, problem = caught.comparison, str(caught)
            code = caught.code if isinstance(caught, ComparisonInterrupted) else 1
            logging.getLogger("graphnorms").warning("%s", problem, extra={"displayed": True})
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
    from graphnorms.lab.agenda import Agenda
    from graphnorms.lab.duration import estimate
    from graphnorms.lab.fit import fit
    from graphnorms.lab.phrases import duration, several
    from graphnorms.lab.plan_sentences import kept_lines, plan_lines, shorter_line
    from graphnorms.lab.prepare import prepare
    from graphnorms.lab.run import standing

    plan, config = prepare(dataset, options)
    there = standing(plan.folder, config)
    kept = Agenda(plan.schedule, there.records.values()).records()
    untimed = plan.trainer is not None  # user code cannot be asked for a few steps
    if as_json:
        found = None if untimed else estimate(plan, kept)
        outcome = {
            "settings": config,
            "trials": plan.settings.planned,
            "there": len(kept),
            "changes": there.change.words,
            "refused": there.change.refusal,
            "seconds": plan.fitted.get("seconds") if found is None else found.seconds,
            "failing": {} if found is None else dict(found.failing),
            "folder": str(plan.folder),
            "command": plan.command,
        }
        print(json.dumps(outcome, indent=2, allow_nan=False))
        return
    console = terminal(highlight=False)
    said = kept_lines(plan.folder, there.change.words, len(kept), plan.settings.planned)
    console.print(by_subject(plan_lines(plan)))
    for line in said:
        console.print(line, markup=False)
    if there.change.refusal:
        console.print(f"Refused as it is: {there.change.refusal}", markup=False)
    if len(kept) == plan.settings.planned:
        return
    if plan.fitted and not kept:
        return  # measured already, and a second measurement would give another time
    if untimed:
        console.print("How long it takes is known when the first trials have ended.")
        return
    found = estimate(plan, kept)
    console.print(
        f"About {duration(found.seconds)}, from {several(found.steps, 'training step')} of every "
        f"{plan.settings.noun}: "
        f"{found.quickest * 1e3:.1f} to {found.slowest * 1e3:.1f} ms a step.",
        markup=False,
    )
    if found.seconds > _LONG and options.time is None:
        with suppress(ValueError):  # it cannot be that short
            console.print(shorter_line(fit(plan, _LONG, found), plan.dataset), markup=False)
    for norm, reason in found.failing.items():
        console.print(f"The model does not run with {norm}: {reason}", markup=False)
