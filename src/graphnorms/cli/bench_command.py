"""`graphnorms bench`: the options of the benchmark suite, and what it prints."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from graphnorms.cli import completion
from graphnorms.cli.terminal import terminal

if TYPE_CHECKING:
    from graphnorms.bench import Result, Settings

_WIDTH = 160  # no column is cut on a narrow terminal

bench = typer.Typer(help="Time the layers on this machine, after checking their numbers.")

Threads = Annotated[str, typer.Option(help="Numbers of threads, separated by commas.")]
Rows = Annotated[int | None, typer.Option(help="Rows, instead of the shapes of the suite.")]
Channels = Annotated[int | None, typer.Option(help="Channels, instead of the shapes of the suite.")]
Graphs = Annotated[int | None, typer.Option(help="Graphs, instead of the shapes of the suite.")]
Dtype = Annotated[str, typer.Option(help="Dtypes of the features, separated by commas.")]
Norms = Annotated[
    str,
    typer.Option(
        help="Layers, separated by commas.",
        show_default="the suite's",
        autocompletion=completion.norms,
    ),
]
Activations = Annotated[
    str, typer.Option(help="Activations fused behind each layer, separated by commas.")
]
Rounds = Annotated[int, typer.Option(help="How often each contender is timed.")]
Device = Annotated[str, typer.Option(help="Device, e.g. cpu or cuda:0.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="The result file; a plot goes beside it.",
        show_default="benchmarks/results/<device>/; none for sizes or norms of your own",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing result.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Compile = Annotated[bool, typer.Option("--compile/--no-compile", help="Time PyG compiled as well.")]
Beside = Annotated[
    str,
    typer.Option(
        metavar="PYTHON",
        help="The Python of an environment with another version of graphnorms, which is timed in "
        "the same turns: for layers, calls, epoch and lab.",
        show_default=False,
    ),
]
Quick = Annotated[bool, typer.Option("--quick", help="Tiny sizes, to try it out.")]


def _command(name: str, purpose: str) -> None:
    """Add the subcommand of one benchmark; all take the same options."""

    def command(
        threads: Threads = "1",
        rows: Rows = None,
        channels: Channels = None,
        graphs: Graphs = None,
        dtype: Dtype = "float32",
        norms: Norms = "",
        activations: Activations = "none,relu",
        rounds: Rounds = 25,
        device: Device = "cpu",
        out: Out = None,
        force: Force = False,
        as_json: AsJson = False,
        compiled: Compile = True,
        quick: Quick = False,
        beside: Beside = "",
    ) -> None:
        from graphnorms.bench import Settings
        from graphnorms.bench.bench_settings import LARGE, Shape

        own = None
        if rows is not None or channels is not None or graphs is not None:
            # A size that was not given comes from the large shape; Shape refuses 0.
            own = Shape(
                "own",
                LARGE.rows if rows is None else rows,
                LARGE.channels if channels is None else channels,
                LARGE.graphs if graphs is None else graphs,
            )
        settings = Settings(
            threads=tuple(map(int, _split(threads))),
            dtypes=_split(dtype),
            shape=own,
            rounds=rounds,
            norms=_split(norms),
            activations=_split(activations),
            device=device,
            compiled=compiled,
            quick=quick,
            beside=beside,
        )
        _run(name, settings, out, force=force, as_json=as_json)

    bench.command(name, help=purpose)(command)


def _run(name: str, settings: Settings, out: Path | None, *, force: bool, as_json: bool) -> None:
    from graphnorms.bench import run
    from graphnorms.bench.machine import describe
    from graphnorms.bench.results import FOLDER, Result, require_free

    if out is None and settings.standard:
        empty = Result(name, "", "", describe(settings.device), {}, ())
        out = FOLDER / empty.path
    if out is not None:
        require_free(out, force=force)
    typed = shlex.join(["graphnorms", *sys.argv[1:]])
    result = run(name, settings, command=typed, say=_say)
    _show(result, out, force=force, as_json=as_json)


def _show(result: Result, out: Path | None, *, force: bool, as_json: bool) -> None:
    from graphnorms.bench import plots
    from graphnorms.bench.results import save
    from graphnorms.bench.tables import preamble, tables_of

    if as_json:
        print(result.to_json(), end="")
    else:
        console = terminal(highlight=False, width=_WIDTH)
        console.print(preamble(result), markup=False, soft_wrap=True)
        for table in tables_of(result):
            shown = Table(*table.header, box=None, pad_edge=False)
            for column in shown.columns[1:]:
                column.justify = "right"
            for row in table.rows:
                shown.add_row(*row)
            console.print(f"\n{table.title}", markup=False, soft_wrap=True)
            console.print(shown)
    if out is None:
        _say("not kept: --quick, or sizes or norms of your own; --out FILE keeps the result")
        return
    save(result, out, force=force)
    _say(f"result: {out}")
    if plots.is_installed():
        picture = out.with_suffix(".svg")
        plots.draw(result, picture)
        _say(f"plot:   {picture}")
    else:
        _say("no plot: pip install 'graphnorms[bench]' brings vl-convert")


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_command("layers", "Time every layer against PyG's (eager, compiled), torch's own, and a copy.")
_command("calls", "Time small calls.")
_command("force", "Time a step of force training: forward, backward, and the backward of both.")
_command("memory", "Measure the bytes kept for the backward, and the peak.")
_command("epoch", "Time a GIN epoch against PyG's, and against its matrix products alone.")
_command("scaling", "Time one element as rows, channels, graphs or segment length vary.")
_command("lab", "Time the trials of a comparison against the same written with PyG.")
_command("hook", "Time a step of PyG's GIN with replaced norms: the cost of finding the batch.")


@bench.command()
def size(
    threads: Threads = "1",
    rounds: Rounds = 2,
    data: Annotated[
        str,
        typer.Option(
            help="Names or paths of sets, separated by commas.",
            show_default="generated, as large as REDDIT-BINARY and molhiv",
        ),
    ] = "",
    out: Out = None,
    force: Force = False,
    as_json: AsJson = False,
    quick: Quick = False,
) -> None:
    """Time passes over large sets and graphs against PyG's, and measure the memory of each."""
    from graphnorms.bench import Settings

    settings = Settings(
        threads=tuple(map(int, _split(threads))), rounds=rounds, data=_split(data), quick=quick
    )
    _run("size", settings, out, force=force, as_json=as_json)


@bench.command()
def page(
    file: Annotated[Path, typer.Argument(help="The page to fill in.")] = Path("docs/benchmarks.md"),
    results: Annotated[Path, typer.Option(help="The folder of results.")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Fill in the page of the documentation from the result files."""
    from graphnorms.bench.benchmarks_page import fill

    fill(file, results)
    _say(f"filled in: {file}")
