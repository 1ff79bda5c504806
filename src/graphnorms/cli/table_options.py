"""The options that print an outcome for a paper or a program, and nothing else."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print the outcome as JSON, and nothing else.")
]
AsLatex: TypeAlias = Annotated[
    bool, typer.Option("--latex", help="Print the table for LaTeX (booktabs), and nothing else.")
]
AsCsv: TypeAlias = Annotated[
    bool, typer.Option("--csv", help="Print the table as CSV in full precision, and nothing else.")
]
AsMarkdown: TypeAlias = Annotated[
    bool, typer.Option("--markdown", help="Print the table in Markdown, and nothing else.")
]


def chosen_format(*, latex: bool, csv: bool, markdown: bool, json: bool) -> str:
    """Return the one format that is wanted, but JSON; empty for none.

    Raises:
        ValueError: There are several.
    """
    wanted = {"latex": latex, "csv": csv, "markdown": markdown, "json": json}
    given = [name for name, asked in wanted.items() if asked]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(f'--{name}' for name in given)} exclude each other")
    return given[0] if given and given[0] != "json" else ""
