"""The commands about comparisons that were made: list them, show one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphnorms.lab.runs import RUNS


def runs(
    folder: Annotated[str, typer.Argument(help="Where runs lie.")] = str(RUNS),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the list as JSON, and nothing else.")
    ] = False,
) -> int:
    """List the comparisons in a folder."""
    from graphnorms.cli.shelf import show_runs

    return show_runs(Path(folder), as_json=as_json)


def show(
    run: Annotated[str, typer.Argument(help="The run's folder, or its name in runs/.")],
    export: Annotated[
        str | None,
        typer.Option(
            help="Write the best model of the norm that the verdict recommends, as safetensors.",
            show_default=False,
        ),
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(help="Of this norm instead, for --export.", show_default=False),
    ] = None,
    parquet: Annotated[
        str | None,
        typer.Option(help="Write the trials as a Parquet file.", show_default=False),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON, and nothing else.")
    ] = False,
) -> int:
    """Show the outcome of a comparison again, finished or not."""
    from graphnorms.cli.shelf import show_run

    return show_run(run, export=export, norm=norm, parquet=parquet, as_json=as_json)
