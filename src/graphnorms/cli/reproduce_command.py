"""`graphnorms reproduce`: train a published table again, and show it beside the published one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from graphnorms.cli.terminal import plain_table, say, terminal

if TYPE_CHECKING:
    from graphnorms.reproduce.published_values import Paper

reproduce = typer.Typer(
    help="Train a published table again by its authors' protocol, and show both."
)

RESULTS = Path("reproduction")
_WIDTH = 140  # so that intervals are not broken
Data = Annotated[
    Path | None,
    typer.Option(help="The folder of the data, such as MUTAG/MUTAG.txt.", show_default="by name"),
]
Datasets = Annotated[str, typer.Option(help="Data sets, separated by commas.", show_default="all")]
Models = Annotated[str, typer.Option(help="Models, separated by commas.", show_default="all")]
Norms = Annotated[str, typer.Option(help="Norms, separated by commas.", show_default="all")]
Protocols = Annotated[
    str,
    typer.Option(
        help="paper, script (the authors' settings for single cells) and nested, separated by "
        "commas; for luo split.",
        show_default="all",
    ),
]
Folds = Annotated[
    int | None,
    typer.Option(help="Train the first ones of the folds, splits or seeds.", show_default="all"),
]
Epochs = Annotated[int | None, typer.Option(help="Epochs of a trial.", show_default="the paper's")]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Trials at a time; 0 trains in this process.", show_default="one per core", min=0
    ),
]
Studies = Annotated[
    bool, typer.Option("--studies/--no-studies", help="Measure the paper's other figures as well.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The folder of the trials.", show_default="reproduction/NAME"),
]
Show = Annotated[bool, typer.Option("--show", help="Show what is trained, and train nothing.")]


def _command(name: str, words: str) -> None:
    """Add the subcommand of one paper; all take the same options."""

    def command(
        data: Data = None,
        datasets: Datasets = "",
        models: Models = "",
        norms: Norms = "",
        protocols: Protocols = "",
        folds: Folds = None,
        epochs: Epochs = None,
        workers: Workers = None,
        studies: Studies = True,
        out: Out = None,
        show: Show = False,
    ) -> None:
        from graphnorms.lab.engines import default_workers
        from graphnorms.reproduce.outcome import Outcome
        from graphnorms.reproduce.paper_runs import Part, cells_of, read_data, source_of, train
        from graphnorms.reproduce.published_values import PAPERS
        from graphnorms.reproduce.reproduction_page import write_page

        paper = PAPERS[name]
        part = Part(
            datasets=_split(datasets),
            models=_split(models),
            norms=_split(norms),
            protocols=_split(protocols),
            folds=folds,
            epochs=epochs,
        ).checked(paper)
        if show and (norms or folds is not None):
            raise ValueError("--show shows all norms and folds; leave --norms and --folds out")
        folder = RESULTS / name if out is None else out
        number = default_workers("cpu") if workers is None else workers
        if not show:
            for cell in cells_of(paper, part):  # told before hours of training
                source_of(paper, cell.dataset, data)
            for cell in cells_of(paper, part):
                train(cell, read_data(paper, cell.dataset, data), folder, part, number, _say)
            if studies:
                _measure(paper, data, folder, number)
        outcome = Outcome.of(paper, folder, part)
        console = terminal(highlight=False, width=_WIDTH)
        for table in outcome.tables():
            console.print(f"\n{table.title}", style="bold", markup=False)
            shown = plain_table(*table.header)
            for row in table.rows:
                shown.add_row(*map(Text, row))
            console.print(shown)
        console.print()
        console.print(Text(outcome.conclusion))
        say(console, f"page: {write_page(outcome, folder)}")

    reproduce.command(name, help=words)(command)


def _measure(paper: Paper, data: Path | None, folder: Path, workers: int) -> None:
    """Measure the studies that are the other figures of a paper."""
    from graphnorms.studies.runner import run_study
    from graphnorms.studies.study import Settings
    from graphnorms.studies.study_list import study_named
    from graphnorms.studies.study_results import own_folder

    settings = Settings(data=data)
    typed = shlex.join(["graphnorms", *sys.argv[1:]])
    for each in paper.studies:
        own = own_folder(folder / "studies" / each, settings)
        result = run_study(study_named(each), settings, own, workers=workers, command=typed)
        _say(f"study {each}: {result.finding.verdict}")


def _split(text: str) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",") if part.strip()) or None


def _say(line: str) -> None:
    say(terminal(stderr=True), line)


@reproduce.command()
def page(
    file: Annotated[Path, typer.Argument(help="The page to fill in.")] = Path(
        "docs/reproduction.md"
    ),
    results: Annotated[
        Path, typer.Option(help="The folder with a folder of trials for each paper.")
    ] = RESULTS,
) -> None:
    """Keep records and figures beside the documentation's page, and fill it in."""
    from graphnorms.reproduce.reproduction_page import fill

    kept = fill(file, results)
    size = sum(each.stat().st_size for each in kept)
    say(terminal(), f"filled in: {file}; {len(kept)} comparisons in {size / 1e6:.2f} MB")


_command("graphnorm", "Cai et al. 2021: GIN and GCN on graph classification.")
_command("luo", "Luo et al. 2024: tuned GCN with and without a norm on node classification.")
