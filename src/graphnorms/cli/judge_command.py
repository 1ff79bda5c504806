"""The command `judge`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from graphnorms.cli import completion
from graphnorms.cli.table_options import AsCsv, AsJson, AsLatex, AsMarkdown, chosen_format
from graphnorms.cli.terminal import terminal


def judge(
    table: Annotated[
        str,
        typer.Argument(
            help="CSV, TSV, Parquet, JSON or JSON lines; a report of GraphNetz, an export of "
            "Weights & Biases, a folder of GraphGym's results."
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            help="Column of the methods; several with commas between compare combinations.",
            show_default="guessed",
        ),
    ] = None,
    score: Annotated[
        str | None, typer.Option(help="Column of the scores.", show_default="guessed")
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="Column of folds, or splits.", show_default="guessed")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(help="Column of seeds, or runs.", show_default="guessed")
    ] = None,
    repeat: Annotated[
        str | None,
        typer.Option(
            help="Column of the repeats of a cross-validation, each of other folds.",
            show_default="guessed",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Column of the data sets.", show_default="guessed")
    ] = None,
    design: Annotated[
        str | None,
        typer.Option(
            help="What was repeated: folds (of a cross-validation), resampled (splits drawn "
            "anew), seeds (on one split), or datasets (independent).",
            show_default="guessed",
            autocompletion=completion.designs,
        ),
    ] = None,
    test_share: Annotated[
        float | None,
        typer.Option(
            help="Share of the data that a resampled split tests; 0: each has its own data.",
            show_default="0.2",
        ),
    ] = None,
    higher_is_better: Annotated[
        bool | None,
        typer.Option(
            "--higher-is-better/--lower-is-better",
            help="Which way is better.",
            show_default="by the name of the metric",
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Differences below it are practically none, in the unit of the score; of "
            "fractions and percentages 0.01 is one point.",
            show_default="one point, or 1% of the first method's mean",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Write a page as well.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    latex: AsLatex = False,
    csv: AsCsv = False,
    markdown: AsMarkdown = False,
) -> int:
    """Judge scores that are there already, in a table or an export; nothing is trained.

    Which methods differ, which are shown to be equal, what could have been seen, and how many more
    seeds or folds it takes: with the tests of graphnorms compare.
    """
    form = chosen_format(latex=latex, csv=csv, markdown=markdown, json=as_json)

    from graphnorms.lab.judged_table import judge as judge_table
    from graphnorms.report.judged_lines import judged_lines
    from graphnorms.report.table_formats import formatted

    found = judge_table(
        table,
        method=method,
        score=score,
        fold=fold,
        seed=seed,
        repeat=repeat,
        dataset=dataset,
        design=design,
        test_share=test_share,
        higher_is_better=higher_is_better,
        margin=margin,
    )
    page = found.report(out) if out is not None else None
    console = terminal(highlight=False)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    elif form:
        print(formatted({one.name: one.verdict for one in found.sets}, form), end="")
    else:
        plain = not (console.encoding or "").lower().startswith("utf")
        for part in judged_lines(found, width=console.width, plain=plain):
            console.print(part)
    if page is not None:
        terminal(stderr=bool(form) or as_json).print(
            f"report:  {page}", markup=False, highlight=False, soft_wrap=True
        )
    return 0
