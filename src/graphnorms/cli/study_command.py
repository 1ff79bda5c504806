"""`graphnorms study`: measure a claim of the literature, and show what came out."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from graphnorms.cli import complain
from graphnorms.cli.terminal import plain_table, say, terminal
from graphnorms.interrupts import INTERRUPTED, TERMINATED
from graphnorms.lab.phrases import duration
from graphnorms.studies.study_list import LIMITS, NAMES, TOPICS, study_named
from graphnorms.studies.study_results import PNG, RESULT, STUDIES, SVG, label, load_runs, own_folder

if TYPE_CHECKING:
    from graphnorms.studies.runner import Progress
    from graphnorms.studies.study import Case, Settings, Study, Verdict
    from graphnorms.studies.study_results import StudyResult

study = typer.Typer(
    help="Measure claims of the literature about normalization: one per command, or all."
)

COLORS: dict[Verdict, str] = {
    "confirmed": "green",
    "not confirmed": "red",
    "inconclusive": "yellow",
}

GALLERY = "index.html"
Seed = Annotated[int, typer.Option(help="Other seeds give other numbers.")]
Full = Annotated[
    bool,
    typer.Option(
        "--full", help="Run at a larger scale: more seeds, longer training or larger models."
    ),
]
Tiny = Annotated[
    bool, typer.Option("--tiny", help="Run in seconds, to try it out; the verdict means nothing.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="A folder with larger data sets, such as PROTEINS/PROTEINS.txt.",
        show_default="the sets in the package",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Number of worker processes; 0 measures in this one.", show_default="one per core"
    ),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="The folder of results, with a folder per study.")
]
Redraw = Annotated[
    bool,
    typer.Option("--redraw", help="Judge and draw kept measurements again, without measuring."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="A line for every case, on a terminal too.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say the verdict only, and errors.")]


class _Output(NamedTuple):
    """How much is printed."""

    as_json: bool
    verbose: bool
    quiet: bool


def _command(name: str, words: str, *, every: bool = False) -> None:
    """Add the subcommand of one study, or of all; they take the same options."""

    def command(
        seed: Seed = 0,
        full: Full = False,
        tiny: Tiny = False,
        data: Data = None,
        workers: Workers = None,
        out: Out = STUDIES,
        redraw: Redraw = False,
        as_json: AsJson = False,
        verbose: Verbose = False,
        quiet: Quiet = False,
    ) -> int:
        if verbose and quiet:
            raise ValueError("--verbose and --quiet say the opposite; give one of them")
        settings = _settings(seed=seed, full=full, tiny=tiny, data=data)
        chosen = [study_named(each) for each in (NAMES if every else [name])]
        output = _Output(as_json, verbose, quiet)
        code = _run(chosen, settings, workers, out, output, redraw=redraw)
        if every and code not in (INTERRUPTED, TERMINATED):
            _write_gallery(out / GALLERY, out, quiet=as_json or quiet)
        return code

    study.command(name, help=words)(command)


def _settings(*, seed: int, full: bool, tiny: bool, data: Path | None) -> Settings:
    from graphnorms.studies.study import Settings

    if full and tiny:
        raise ValueError("--full and --tiny were both given, expected one of them or none")
    if data is not None and not data.is_dir():
        raise ValueError(f"--data {data}: no such folder; expected one with PROTEINS/PROTEINS.txt")
    return Settings(size="full" if full else "tiny" if tiny else "default", seed=seed, data=data)


def _run(
    chosen: list[Study],
    settings: Settings,
    workers: int | None,
    out: Path,
    output: _Output,
    *,
    redraw: bool,
) -> int:
    from graphnorms.errors import GraphnormsError
    from graphnorms.lab.engines import default_workers
    from graphnorms.studies.runner import StudyInterrupted, redraw_study, run_study

    number = default_workers("cpu") if workers is None else workers
    if number < 0:
        raise ValueError(f"workers is {number}, expected a number from 0 on")
    typed = shlex.join(["graphnorms", *sys.argv[1:]])
    results, failed = [], False
    for each in chosen:
        folder = own_folder(out / each.name, settings)
        try:
            if redraw:
                result = redraw_study(each, folder)
            else:
                with _shown(terminal(stderr=output.as_json), each, output) as display:
                    result = run_study(
                        each, settings, folder, workers=number, command=typed, on_progress=display
                    )
        except StudyInterrupted as caught:
            complain(str(caught))
            return caught.code
        except Exception as error:  # one study that fails does not stop the others
            if len(chosen) == 1:
                raise
            expected = isinstance(error, GraphnormsError)
            complain(str(error) if expected else f"{each.name}: {type(error).__name__}: {error}")
            failed = True
            continue
        results.append(result)
        if output.quiet and not output.as_json:
            say(terminal(), f"{result.name}: {result.finding.verdict}")
        elif not output.as_json:
            show_result(terminal(highlight=False), result, folder)
    if output.as_json:
        outcome = [json.loads(result.to_json()) for result in results]
        print(json.dumps(outcome[0] if len(chosen) == 1 else outcome, indent=2, allow_nan=False))
    return 1 if failed else 0


def show_result(console: Console, result: StudyResult, folder: Path) -> None:
    """Print the claim, the prediction, the finding, and the files of a result."""
    verdict = result.finding.verdict
    table = plain_table()
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for what, words in (
        ("claim", result.claim),
        ("source", result.source),
        ("prediction", result.prediction),
        ("rule", result.rule),
        ("measured", result.finding.statement),
    ):
        table.add_row(what, Text(words))
    for what, words in (("changed", result.changed), ("limits", LIMITS.get(result.name, ""))):
        if words:
            table.add_row(what, Text(words))
    table.add_row("verdict", Text(verdict, style=f"bold {COLORS[verdict]}"))
    if result.together not in (None, verdict):
        table.add_row("", Text(f"as one of {len(NAMES)} told together: {result.together}"))
    if result.settings.size == "tiny":
        table.add_row("", Text("of size tiny, to try it out: it means nothing"))
    console.print(f"\n[bold]{result.name}[/]")
    console.print(table)
    for values in result.finding.tables:
        console.print(Text(f"\n{values.title}", style="dim"))
        shown = plain_table(*(Column(Text(name)) for name in values.header))
        for row in values.rows:
            shown.add_row(*map(Text, row))
        console.print(shown)
    say(console, f"{folder / RESULT}, {SVG}, {PNG}")


@contextmanager
def _shown(console: Console, of: Study, output: _Output) -> Iterator[Callable[[Progress], None]]:
    """Give what shows progress: a bar on a terminal, else a line per case."""
    if output.quiet or (output.as_json and not output.verbose and not console.is_terminal):
        yield lambda progress: None
    elif console.is_terminal and not console.is_dumb_terminal and not output.verbose:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Bar(*columns, console=console, transient=True) as bar:
            task = bar.add_task(of.name, total=None, left="")
            yield lambda progress: bar.update(
                task, completed=progress.done, total=progress.total, left=_left(progress)
            )
    else:
        yield lambda progress: _say_progress(console, progress)


def _say_progress(console: Console, progress: Progress) -> None:
    total = progress.total
    if progress.case is not None:
        line = (
            f"{progress.done:{len(str(total))}}/{total}  {progress.study}  "
            f"{case_in_words(progress.case)}  {progress.seconds:.1f} s  {_left(progress)}"
        )
        say(console, line.rstrip())
    elif progress.kept:
        say(console, f"{progress.kept} of {total} cases of {progress.study} are measured already")


def _left(progress: Progress) -> str:
    return "" if progress.remaining is None else f"about {duration(progress.remaining)} left"


def case_in_words(case: Case) -> str:
    """Write a case on a line: `norm batch, seed 0`."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in case.items()
    )


@study.command("list")
def list_(
    out: Out = STUDIES,
    as_json: AsJson = False,
) -> int:
    """List the studies: claim, cost, and last verdict."""
    found = {runs[0].name: runs for runs in (list(each.values()) for each in load_runs(out, NAMES))}
    studies = [study_named(name) for name in NAMES]
    if as_json:
        listed = [
            {
                "name": each.name,
                "claim": each.claim,
                "seconds": each.seconds,
                "verdict": found[each.name][0].finding.verdict if each.name in found else None,
                "larger": {
                    label(run.settings): run.finding.verdict for run in found.get(each.name, [])[1:]
                },
            }
            for each in studies
        ]
        print(json.dumps(listed, indent=2, ensure_ascii=False, allow_nan=False))
        return 0
    console = terminal(highlight=False)
    # A name that is cut could not be typed; a column of nothing would take the room of the claims.
    verdicts = [f"last verdict in {out}"] if found else []
    table = plain_table(Column("study", no_wrap=True), "claim", "cost", *verdicts)
    for each in studies:
        last = Text("")
        for place, run in enumerate(found.get(each.name, [])):
            how = label(run.settings)
            last.append(", " if place else "")
            last.append(run.finding.verdict, style=COLORS[run.finding.verdict])
            last.append(f" ({how})" if how else "")
        table.add_row(each.name, Text(each.claim), f"{each.seconds} s", *([last] if found else []))
    console.print(table)
    console.print("\nCost: of the default size, on two cores.")
    return 0


_command("all", "Measure every claim, and write one page about all of them.", every=True)


@study.command()
def calibrate(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Which studies.", show_default="all with calibration worlds"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many runs in each world.")] = 10,
    out: Out = STUDIES,
) -> int:
    """Run studies on planted material, on which it is known whether the claim holds."""
    from graphnorms.studies import calibration

    def _say_verdict(holds: bool, seed: int, verdict: Verdict) -> None:
        planted = "true" if holds else "false"
        say(terminal(), f"{name}, planted {planted}, seed {seed}: {verdict}")

    chosen = list(names or calibration.calibrated())
    for name in chosen:
        calibration.worlds_of(name)  # an unknown name is told before anything is measured
    failed = False
    for name in chosen:
        found = calibration.calibrate(name, seeds=seeds, on_verdict=_say_verdict)
        calibration.save_calibrations([found], out / calibration.FILE)
        true, false = found.right
        failed |= not found.passed
        say(
            terminal(),
            f"{name}: {true} of {seeds} right where it holds, {false} of {seeds} where not",
        )
    say(terminal(), f"calibration: {out / calibration.FILE}")
    return 1 if failed else 0


@study.command()
def gallery(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The page.", show_default=f"FOLDER/{GALLERY}"),
    ] = None,
    folder: Annotated[Path, typer.Argument(help="The folder of results.")] = STUDIES,
) -> int:
    """Write the page over existing results, without measuring."""
    _write_gallery(folder / GALLERY if out is None else out, folder)
    return 0


@study.command()
def page(
    file: Annotated[Path, typer.Argument(help="The page to fill in.")] = Path("docs/studies.md"),
    results: Annotated[Path, typer.Option(help="The folder of results.")] = STUDIES,
) -> int:
    """Copy results into the documentation, fill in its page, and write one of each study."""
    from graphnorms.studies.studies_page import keep

    kept = keep(results, file)
    say(terminal(), f"filled in: {file}, {len(kept)} studies")
    return 0


def _write_gallery(page: Path, folder: Path, *, quiet: bool = False) -> None:
    from graphnorms.studies.gallery import write_gallery

    write_gallery(page, folder)
    if not quiet:
        say(terminal(), f"page: {page}")


for _name in NAMES:
    _command(_name, TOPICS[_name])
