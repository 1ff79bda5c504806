"""The commands `runs` and `show`."""

from __future__ import annotations

import difflib
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer
from rich.table import Column
from rich.text import Text

from graphnorms import late
from graphnorms.cli import completion
from graphnorms.cli.table_options import AsCsv, AsJson, AsLatex, AsMarkdown, chosen_format
from graphnorms.cli.terminal import plain_table, say, terminal
from graphnorms.errors import GraphnormsError
from graphnorms.lab.option_table import about
from graphnorms.lab.run import CONFIG, RUNS

if TYPE_CHECKING:
    from graphnorms.lab.run_list import RunSummary


Margin: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Judge with this margin instead, training nothing; the run keeps its own.",
        show_default="the run's",
    ),
]


def runs(
    folder: Annotated[str, typer.Argument(help="Where runs lie.")] = str(RUNS),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the list as JSON, and nothing else.")
    ] = False,
) -> int:
    """List the comparisons in a folder, the latest first."""
    from graphnorms.lab.run_list import list_runs

    found = list_runs(Path(folder))
    if as_json:
        print(json.dumps([run.to_dict() for run in found], indent=2, allow_nan=False))
        return 0
    console = terminal(highlight=False)
    if not found:
        console.print(f"no runs in {folder}; graphnorms compare makes one", markup=False)
        return 0
    # A name that is cut could not be typed, and a time could not be read.
    folded = [Column(name, overflow="fold") for name in ("run", "data")]
    columns = [*folded, "model", "protocol", "norms", "trials", Column("last", min_width=_TIME)]
    shown = range(len(columns)) if console.width >= _ROOMY else _NARROW
    table = plain_table(*(columns[place] for place in shown))
    readable = [run for run in found if not run.problem]
    for run in readable:
        cells = _cells(run)
        table.add_row(*(Text(cells[place]) for place in shown))
    if readable:
        console.print(table)
    for run in found:
        if run.problem:  # a sentence in a cell would leave the other columns no room
            console.print(f"{run.folder.name}: {run.problem}", markup=False)
    return 0


def show(
    run: Annotated[
        str,
        typer.Argument(
            help="The run's folder, or its name in runs/.", autocompletion=completion.runs
        ),
    ],
    margin: Margin = None,
    export: Annotated[
        str | None,
        typer.Option(
            help="Write the best model of the norm that the verdict recommends, as safetensors.",
            show_default=False,
        ),
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(
            help="With --export: the norm, or treatment, whose model is written; needed where "
            "the verdict recommends none.",
            show_default=False,
            autocompletion=completion.norm,
        ),
    ] = None,
    parquet: Annotated[
        str | None,
        typer.Option(help="Write the trials as a Parquet file.", show_default=False),
    ] = None,
    log: Annotated[
        str | None,
        typer.Option(
            help="Log every trial to tensorboard, wandb or mlflow, as compare --log does.",
            show_default=False,
            autocompletion=completion.one_of(*about("log").words),
        ),
    ] = None,
    as_json: AsJson = False,
    latex: AsLatex = False,
    csv: AsCsv = False,
    markdown: AsMarkdown = False,
) -> int:
    """Show the outcome of a comparison again, finished or not."""
    if norm is not None and export is None:
        raise ValueError(f"norm {norm} says whose model to export; give --export FILE as well")
    form = chosen_format(latex=latex, csv=csv, markdown=markdown, json=as_json)
    folder = folder_of(run)
    if not form:
        _show_judgement(folder, margin, as_json=as_json)
    if not form and parquet is export is log is None:
        return 0
    from graphnorms.lab.comparison import open_comparison

    comparison, written = open_comparison(folder, margin=margin), []
    if form:
        print(comparison.formatted(form), end="")
    if parquet is not None:
        written.append(f"trials:  {comparison.to_parquet(parquet)}")
    if export is not None:
        from graphnorms.lab.model_export import trial_words

        written.append(f"model:   {comparison.export(export, norm)}")
        words = trial_words(comparison.to_export(norm), comparison.settings.unit)
        written.append(f"         {words}")
    console = terminal(stderr=as_json or bool(form))
    if log is not None:
        from graphnorms.lab.log_trials import log_all, trackers_of

        trackers = trackers_of(log, comparison.folder)
        for name, new in log_all(comparison.records, trackers):
            written.append(f"logged:  {new} of {len(comparison.records)} trials to {name}")
    for line in written:
        say(console, line)
    return 0


def _show_judgement(folder: Path, margin: float | None, *, as_json: bool) -> None:
    """Print what a comparison found, in full."""
    late.postpone("numpy", "scipy")  # what was judged before needs neither
    from graphnorms.cli.judgement_view import show_judgement
    from graphnorms.lab.judgement import judgement_of

    found, settings = judgement_of(folder, margin=margin)
    if as_json:
        print(json.dumps(found.to_dict(settings, folder), indent=2, allow_nan=False))
        return
    console = terminal()
    done = found.done + found.failed
    say(console, found.command)
    if done < found.planned:
        to_continue = f"graphnorms compare --resume --out {folder}"
        say(console, f"{done} of {found.planned} trials; to continue: {to_continue}")
    if done:
        show_judgement(console, found, folder, in_full=True)


def folder_of(run: str) -> Path:
    """Return the folder of a run that is given by its path, or by its name.

    Raises:
        GraphnormsError: There is no such run; the message has similar names.
    """
    path, named = Path(run), RUNS / run
    for folder in (path, named):
        if (folder / CONFIG).exists():
            return folder
    near = difflib.get_close_matches(run, completion.runs(""), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "graphnorms runs lists what there is"
    raise GraphnormsError(f"{run} holds no run ({CONFIG} is missing); {hint}")


def _cells(run: RunSummary) -> tuple[str, ...]:
    trials = f"{run.done + run.failed}" + ("" if run.planned is None else f"/{run.planned}")
    failed = f", {run.failed} failed" if run.failed else ""
    about = (Path(run.dataset).name, run.model, run.protocol, str(len(run.norms)))
    return run.folder.name, *about, trials + failed, _when(run.written)


_ROOMY: Final = 75
"""Columns of a terminal from which on all of a run is listed."""
_NARROW: Final = (0, 1, 5, 6)
"""Below that its name, data, trials and time."""
_TIME: Final = len("2026-11-30")
"""The narrowest column of times: the hour goes to a second line."""


def _when(written: datetime | None) -> str:
    return "" if written is None else written.astimezone().strftime("%Y-%m-%d %H:%M")
