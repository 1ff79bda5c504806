"""The command `predict`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from graphnorms import interrupts
from graphnorms.cli import completion
from graphnorms.cli.terminal import say, terminal
from graphnorms.lab.option_table import about


def predict(
    model: Annotated[str, typer.Argument(help="What graphnorms show RUN --export wrote.")],
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="The graphs, as compare takes them; they need no targets.",
            autocompletion=completion.datasets,
        ),
    ],
    factory: Annotated[
        str | None,
        typer.Option(
            "--model", help="module:function, the code of a model of your own.", show_default=False
        ),
    ] = None,
    norm: Annotated[
        str | None,
        typer.Option(help="module:function, the code of a norm of your own.", show_default=False),
    ] = None,
    drop_empty: Annotated[
        bool, typer.Option("--drop-empty", help=about("drop_empty").help)
    ] = False,
    smiles: Annotated[
        str | None,
        typer.Option(help=about("smiles").help, show_default="that of the training, or guessed"),
    ] = None,
    edges: Annotated[str | None, typer.Option(help=about("edges").help, show_default=False)] = None,
    root: Annotated[str | None, typer.Option(help=about("root").help, show_default="data")] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="The file to write.", show_default="standard output"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON in place of comma-separated values.")
    ] = False,
) -> int:
    """Predict with an exported model: a row for each graph, or node, of some data.

    Classes and questions come with their probabilities, numbers in the unit of the training data.
    Data without the features that the model was trained on, or with labels that it has not seen,
    are refused.
    """
    with interrupts.loading():
        from graphnorms.files import replacing
        from graphnorms.lab.predict import predict as run

    reading = {"drop_empty": drop_empty or None, "smiles": smiles, "edges": edges, "root": root}
    found = run(model, dataset, factory=factory, norm=norm, **reading)
    text = found.to_csv()
    if as_json:
        text = json.dumps(found.to_dict(), indent=2, allow_nan=False) + "\n"
    if out is None:
        print(text, end="")
        return 0
    with replacing(Path(out)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    console = terminal(highlight=False)
    say(console, f"predictions: {out}")
    return 0
