"""The commands and their options."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from graphnorms.cli import complain
from graphnorms.cli.bench import bench
from graphnorms.lab.protocol import DEFAULT_NORMS

app = typer.Typer(
    name="graphnorms",
    help="Normalization for graph neural networks: which one suits your graphs, and by how much.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)

app.add_typer(bench, name="bench")

INTRODUCTION = """\
[bold]graphnorms[/] trains a graph neural network with each normalization on your graphs, side by \
side, and says which one wins, by how much, and what the numbers cannot tell.
"""

EXAMPLES = {
    "compare": "none, batch, layer, instance and graph norm on MUTAG",
    "compare PATH": "the same on your graphs: a TU folder or a powerful-gnns file",
    "compare --norms none,graph": "fewer norms",
    "compare --model gcn": "another model",
    "compare --json": "the outcome for machines",
    "norms": "the normalizations there are",
    "bench layers": "how fast the layers are here, against PyG's and torch's",
    "backends": "which kernels run here, and why others do not",
    "COMMAND --help": "every option",
}


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Normalization for graph neural networks: which one suits your graphs, and by how much."""
    if version:
        from graphnorms.version import __version__

        print(f"graphnorms {__version__}")
    elif context.invoked_subcommand is None:
        examples = _table()
        examples.add_column(no_wrap=True)
        examples.add_column()
        for arguments, effect in EXAMPLES.items():
            examples.add_row(f"graphnorms {arguments}", effect)
        console = Console(highlight=False)
        console.print(INTRODUCTION)
        console.print(examples)


@app.command()
def compare(
    dataset: Annotated[
        str,
        typer.Argument(
            help="Name of an embedded data set, a folder in TU format, or a powerful-gnns text "
            "file (.gz or not)."
        ),
    ] = "MUTAG",
    norms: Annotated[
        str, typer.Option(help="Normalizations, with commas in between; `graphnorms norms`.")
    ] = ",".join(DEFAULT_NORMS),
    model: Annotated[str, typer.Option(help="gin or gcn.")] = "gin",
    preset: Annotated[
        str,
        typer.Option(
            help="default, or graphnorm-paper: architecture and training of the GraphNorm paper."
        ),
    ] = "default",
    norm_place: Annotated[
        str | None,
        typer.Option(help="before-activation or after-activation.", show_default="preset's"),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(
            help="Residual connections: none, or added after-norm or before-norm.",
            show_default="preset's",
        ),
    ] = None,
    folds: Annotated[int, typer.Option(help="Stratified folds of the cross-validation.")] = 10,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training graphs.", show_default="preset's")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Adam's learning rate in the first epoch.", show_default="preset's"),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Adam's L2 penalty.", show_default="preset's")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Graphs in a minibatch.", show_default="preset's")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds weights, batch order and dropout.")] = 0,
    device: Annotated[str, typer.Option(help="Where to train, e.g. cpu or cuda:0.")] = "cpu",
    workers: Annotated[
        int | None, typer.Option(help="Trials at a time.", show_default="one per core")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="The run's folder.", show_default="runs/<dataset>-<model>"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON, and nothing else.")
    ] = False,
) -> int:
    """Train a model with each normalization on the same folds and judge the difference.

    What is done is kept in the run's folder: the same command goes on after an interruption.
    """
    from graphnorms.cli.display import Display
    from graphnorms.comparison import ComparisonInterrupted
    from graphnorms.comparison import compare as run

    with Display(Console(stderr=as_json), quiet_in_pipes=as_json) as display:
        interruption = None
        try:
            comparison = run(
                dataset,
                norms=norms,
                model=model,
                preset=preset,
                norm_place=norm_place,
                residual=residual,
                folds=folds,
                epochs=epochs,
                learning_rate=lr,
                weight_decay=weight_decay,
                batch_size=batch_size,
                seed=seed,
                device=device,
                workers=workers,
                out=out,
                progress=display,
            )
        except ComparisonInterrupted as caught:
            comparison, interruption = caught.comparison, str(caught)
    if as_json:
        print(json.dumps(comparison.to_dict(), indent=2, allow_nan=False))
    else:
        display.show_outcome(comparison)
    if interruption:
        complain(interruption)
        return 130
    return 0 if any(record.status == "done" for record in comparison.records) else 1


@app.command()
def norms(
    name: Annotated[
        str | None, typer.Argument(help="One of them, to read its page.", show_default=False)
    ] = None,
) -> None:
    """List the normalizations, or show the page of one."""
    from graphnorms.layers import CATALOG
    from graphnorms.layers.factory import lookup, settings_of

    console = Console(highlight=False)
    if name is None:
        table = _table("name", "statistics of")
        for row in CATALOG.values():
            table.add_row(row.name, row.summary)
        console.print(table)
        console.print("\ngraphnorms norms NAME: what one of them does, loses and takes.")
        return
    row = lookup(name)
    console.print(f"[bold]{row.title}[/]  [dim]{row.name}[/]")
    console.print(f"{row.formula}\n", markup=False)
    table = _table()
    needs = ", ".join(row.needs)
    for what, words in (
        ("statistics of", row.summary),
        ("invariant to", row.invariant),
        ("loses", row.loses),
        ("use it", row.use),
        ("needs", f"{needs} besides the features and the graphs" if needs else ""),
        ("source", row.source),
    ):
        if words:
            table.add_row(f"[dim]{what}[/]", words)
    console.print(table)
    settings = settings_of(row)
    if settings:
        given = ", ".join(f"{key}={value}" for key, value in settings.items())
        console.print(f"\n[dim]arguments, set as in {row.name.partition(':')[0]}:key=value[/]")
        console.print(given, markup=False)


@app.command()
def backends() -> None:
    """Say which kernels run on this machine, in the order in which they are tried."""
    from graphnorms.kernels import backends as list_backends

    console = Console(highlight=False)
    for backend in list_backends():
        verb = "runs" if backend.available else "does not run"
        console.print(f"{backend.name} {verb}: {backend.detail}", soft_wrap=True, markup=False)


def _table(*headings: str) -> Table:
    table = Table(
        *headings, box=None, pad_edge=False, show_header=bool(headings), header_style="bold"
    )
    table.padding = (0, 2, 0, 0)
    return table
