"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphnorms.cli import completion
from graphnorms.cli.runs_command import Margin, folder_of
from graphnorms.cli.terminal import say, terminal


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders of runs, or their names in runs/.", autocompletion=completion.runs
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="The page.",
            show_default="the run's report.html",
        ),
    ] = None,
    margin: Margin = None,
    figures: Annotated[
        bool,
        typer.Option(
            "--figures/--no-figures",
            help="Its figures as SVG, PNG and PDF as well, beside the page.",
        ),
    ] = True,
) -> int:
    """Write the page of a comparison again, or one page over several; nothing is trained."""
    from graphnorms.lab.comparison import open_comparison
    from graphnorms.report.pictures import folder_beside
    from graphnorms.report.several import report_several

    comparisons = [open_comparison(folder_of(run), margin=margin) for run in runs]
    console = terminal(highlight=False)
    if len(comparisons) == 1:
        page = comparisons[0].report(out, figures=figures)
    elif out is None:
        raise ValueError(f"{len(runs)} runs make one page; say where it goes, e.g. -o page.html")
    else:
        across = report_several(comparisons, out, figures=figures)
        console.print(across.sentence, markup=False)
        page = Path(out)
    say(console, f"report:  {page}")
    if figures and folder_beside(page).exists():
        say(console, f"figures: {folder_beside(page)}")
    return 0
