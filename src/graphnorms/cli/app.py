"""The commands and their options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from graphnorms.cli import complain
from graphnorms.cli.bench import bench
from graphnorms.lab.protocol import DEFAULT_NORMS
from graphnorms.lab.runs import RUNS

_PRESETS, _BUDGETS, _DATAS = "the preset's", "the budget's", "what the data suggest"

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
    "compare nci5k --protocol split": "a regression on a given split",
    "compare PATH": "your graphs: TU folder, powerful-gnns text, .npz, module:factory",
    "compare --norms none,graph --dry-run": "what that would do, and for how long",
    "compare --resume": "go on where it was interrupted",
    "runs": "the comparisons there are",
    "show RUN --export best.safetensors": "one of them again, and its best model",
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
        str | None,
        typer.Argument(
            help="An embedded set (MUTAG, nci5k), a TUDataset's name, a folder in TU format, a "
            "powerful-gnns text file, an .npz file, or module:factory.",
            show_default="MUTAG",
        ),
    ] = None,
    norms: Annotated[
        str | None,
        typer.Option(
            help="Normalizations, with commas in between; none is always among them.",
            show_default=",".join(DEFAULT_NORMS),
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="nested: cross-validation with validation data inside each fold. split: one "
            "split, several seeds. paper: epoch and learning rate chosen by the reported score, "
            "optimistic.",
            show_default="nested",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="quick, standard or full: learning rates, epochs and seeds.", show_default="quick"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="gin, gine (with edge features) or gcn.",
            show_default="gin for graphs, gcn for nodes",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="default, or graphnorm-paper: architecture and training of the GraphNorm paper.",
            show_default="default",
        ),
    ] = None,
    norm_place: Annotated[
        str | None,
        typer.Option(help="before-activation or after-activation.", show_default=_PRESETS),
    ] = None,
    residual: Annotated[
        str | None,
        typer.Option(
            help="Residual connections: none, or added after-norm or before-norm.",
            show_default=_PRESETS,
        ),
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Convolutions.", show_default=_PRESETS)] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Channels of each.", show_default=_PRESETS)
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="classification, binary or regression.", show_default=_DATAS),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Node features: labels, attributes, degree or constant.", show_default=_DATAS
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            help="accuracy, roc_auc, average_precision, mae or rmse.", show_default="the task's"
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="given or random, for protocol split.", show_default="given, if there is one"
        ),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Folds of the cross-validation.", show_default="10")
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            help="Reported trials per fold; on one split, the seeds.", show_default=_BUDGETS
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training data.", show_default=_BUDGETS)
    ] = None,
    lr: Annotated[
        str | None,
        typer.Option(
            help="Adam's learning rate in the first epoch: one, or several with commas in between.",
            show_default=_BUDGETS,
        ),
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Adam's L2 penalty.", show_default=_PRESETS)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Graphs in a minibatch.", show_default=_PRESETS)
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="Differences of scores below this are of no practical interest.",
            show_default="one point, or 1% of the score",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seeds weights, batch order and dropout.", show_default="0")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where to train, e.g. cpu or cuda:0.", show_default="cpu")
    ] = None,
    engine: Annotated[str, typer.Option(help="Where trials run: local or dask.")] = "local",
    scheduler: Annotated[
        str | None, typer.Option(help="Of dask, e.g. tcp://localhost:8786.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Local trials at a time.", show_default="one per core")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(help="The run's folder.", show_default="runs/<dataset>-<model>"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in that folder, with the settings that it has."
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be done and for how long; train nothing."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON, and nothing else.")
    ] = False,
) -> int:
    """Train a model with each normalization, all else equal, and judge the difference.

    Each norm gets the learning rate that is best for it on validation data; scores are those of
    test data, with fresh seeds. What is done is kept in the run's folder: the same command, or
    --resume, goes on after an interruption.
    """
    from graphnorms.comparison import ComparisonInterrupted, prepare
    from graphnorms.comparison import compare as run
    from graphnorms.cli.display import Display
    from graphnorms.lab.protocol import Choices

    choices: dict[str, Any] = {
        "norms": norms, "protocol": protocol, "budget": budget, "model": model, "preset": preset,
        "norm_place": norm_place, "residual": residual, "layers": layers, "hidden": hidden,
        "metric": metric, "split": split, "folds": folds, "runs": runs, "epochs": epochs,
        "learning_rate": None if lr is None else _rates(lr), "weight_decay": weight_decay,
        "batch_size": batch_size, "margin": margin, "seed": seed, "device": device,
    }  # fmt: skip
    where: dict[str, Any] = {
        "task": task, "features": features, "engine": engine, "scheduler": scheduler,
        "workers": workers, "out": out, "resume": resume,
    }  # fmt: skip
    if dry_run:
        plan, _ = prepare(dataset, choices=Choices(**choices), **where)
        return show_plan(plan, as_json=as_json)
    with Display(Console(stderr=as_json), quiet_in_pipes=as_json) as display:
        interruption = None
        try:
            comparison = run(dataset, **choices, **where, progress=display)
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
def runs(
    folder: Annotated[str, typer.Argument(help="Where runs lie.")] = str(RUNS),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the list as JSON, and nothing else.")
    ] = False,
) -> int:
    """List the comparisons in a folder."""
    from graphnorms.cli.shelf import show_runs

    return show_runs(Path(folder), as_json=as_json)


@app.command()
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


def _rates(text: str) -> list[float]:
    """Read learning rates with commas in between."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"lr is {text!r}, expected numbers with commas in between") from None


def _table(*headings: str) -> Table:
    table = Table(
        *headings, box=None, pad_edge=False, show_header=bool(headings), header_style="bold"
    )
    table.padding = (0, 2, 0, 0)
    return table
