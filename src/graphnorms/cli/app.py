"""The commands and their options."""

from __future__ import annotations

import importlib
import inspect
from typing import Annotated, Any, Final

import typer
import typer.core

from graphnorms import interrupts
from graphnorms.cli import completion
from graphnorms.cli.terminal import plain_table, say, terminal

COMMANDS: Final = {
    "compare": "Train a model with each normalization, all else equal, and judge the difference.",
    "data": "Describe data and what they allow: twins, contradictions, scores of simple models.",
    "choose": "Say which norms are worth a comparison on some data, and which not.",
    "runs": "List the comparisons in a folder, the latest first.",
    "show": "Show the outcome of a comparison again, finished or not.",
    "judge": "Judge scores that are there already, in a table or an export; nothing is trained.",
    "report": "Write the page of a comparison again, or one page over several; nothing is trained.",
    "inspect": "Look at the norms of your model on real batches, and say what is wrong with them.",
    "predict": "Predict with an exported model: a row for each graph, or node, of some data.",
    "bench": "Time the layers on this machine, after checking their numbers.",
    "study": "Measure claims of the literature about normalization: one per command, or all.",
    "reproduce": "Train a published table again by its authors' protocol, and show both.",
}
"""The commands with a module of their own, which is imported when they are invoked, and what
`--help` says of them."""

_MODULES: Final = {"show": "runs"}
"""The commands that share the module of another."""


class Interrupted(Exception):
    """Raised at Ctrl-C or SIGTERM by commands without a message of their own.

    At a `KeyboardInterrupt` typer would exit silently. Its cause is what was raised.
    """


class _Commands(typer.core.TyperGroup):
    def invoke(self, context: Any) -> Any:
        try:
            interrupts.interrupt_again()
            return super().invoke(context)
        except (KeyboardInterrupt, ImportError) as error:
            # Modules of pybind11 that are interrupted while they load raise an ImportError.
            if (interrupt := interrupts.behind(error)) is None:
                raise
            raise Interrupted from interrupt

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


app = typer.Typer(
    cls=_Commands,
    name="graphnorms",
    help="Normalization for graph neural networks: which one suits your graphs, and by how much.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)

for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(lambda: None)


def load(name: str) -> Any:
    """Import one of `COMMANDS`."""
    module = importlib.import_module(f"graphnorms.cli.{_MODULES.get(name, name)}_command")
    found = getattr(module, name)
    if isinstance(found, typer.Typer):
        command: Any = typer.main.get_group(found)
    else:
        alone = typer.Typer(add_completion=False)
        alone.command(name, help=_joined(inspect.getdoc(found) or ""))(found)
        command = typer.main.get_command(alone)
    command.name = name
    return command


def _joined(text: str) -> str:
    """Join the lines of each paragraph, for the terminal to wrap them."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


INTRODUCTION = """\
[bold]graphnorms[/] trains a graph neural network with each normalization on your graphs, side by \
side, and says which one wins, by how much, and what the numbers cannot tell.
"""

EXAMPLES = {
    "compare": "none, batch, layer, instance and graph norm on MUTAG",
    "compare nci5k --protocol split": "a regression on a given split",
    "compare PATH": "your graphs: TU folder, powerful-gnns text, .npz, module:factory",
    "compare DATA --model my_models:Net": "your own model, its norms exchanged",
    "compare DATA --norms none,my_norms:Norm": "your own norm beside others",
    "data PATH": "what your data hold and allow: duplicates, the best score possible",
    "choose PATH": "which norms are worth a comparison on them, and why",
    "compare --norms none,graph --dry-run": "what that would do, and for how long",
    "compare --time 1h": "what fits into that time",
    "compare --resume": "go on where it was interrupted",
    "runs": "the comparisons there are",
    "show RUN --export best.safetensors": "one of them again, and its best model",
    "judge results.csv": "scores of your own: method, fold or seed, score",
    "inspect my_models:Net --data DATA": "what the norms of your model see, and what is wrong",
    "predict best.safetensors DATA": "what that model says of other graphs",
    "report RUN RUN -o page.html": "one page over several data sets or models",
    "study list": "claims of the literature, and what was measured of them",
    "reproduce graphnorm": "the published table beside one trained here",
    "norms": "the normalizations there are",
    "bench layers": "how fast the layers are here, against PyG's and torch's",
    "backends": "which kernels run here, and why others do not",
    "COMMAND --help": "every option",
    "--install-completion": "Tab completes commands, options, norms and runs",
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
        examples = plain_table()
        examples.add_column(no_wrap=True)
        examples.add_column()
        for arguments, effect in EXAMPLES.items():
            examples.add_row(f"graphnorms {arguments}", effect)
        console = terminal(highlight=False)
        console.print(INTRODUCTION)
        console.print(examples)


@app.command()
def norms(
    name: Annotated[
        str | None,
        typer.Argument(
            help="One of them, to read its page.",
            show_default=False,
            autocompletion=completion.norm,
        ),
    ] = None,
) -> None:
    """List the normalizations, or show the page of one."""
    console = terminal(highlight=False)
    if name is None:
        from graphnorms.layers.catalog import CATALOG

        table = plain_table("name", "statistics of")
        for each in CATALOG.values():
            table.add_row(each.name, each.summary)
        console.print(table)
        console.print("\ngraphnorms norms NAME: what one of them does, loses and takes.")
        return
    from graphnorms.layers.factory import lookup, settings_of

    row = lookup(name)
    console.print(f"[bold]{row.title}[/]  [dim]{row.name}[/]")
    console.print(f"{row.formula}\n", markup=False)
    table = plain_table()
    needs, takes = ", ".join(row.needs), ", ".join(row.takes)
    for what, words in (
        ("statistics of", row.summary),
        ("invariant to", row.invariant),
        ("loses", row.loses),
        ("use it", row.use),
        ("needs", f"{needs} besides the features and the graphs" if needs else ""),
        ("makes use of", f"{takes} where it is given" if takes else ""),
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

    for backend in list_backends():
        verb = "runs" if backend.available else "does not run"
        say(terminal(), f"{backend.name} {verb}: {backend.detail}")
