"""`graphnorms bench`: the options of the benchmark suite, and what it prints."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graphnorms.cli import completion

if TYPE_CHECKING:
    from graphnorms.bench import Result

bench = typer.Typer(help="Measure the layers on this machine; numbers are checked first.")

Threads = Annotated[str, typer.Option(help="Numbers of threads, with commas in between.")]
Rows = Annotated[int | None, typer.Option(help="Rows, in place of the shapes of the suite.")]
Channels = Annotated[int | None, typer.Option(help="Channels, likewise.")]
Graphs = Annotated[int | None, typer.Option(help="Graphs, likewise.")]
Dtype = Annotated[str, typer.Option(help="Dtypes of the features, with commas in between.")]
Norms = Annotated[
    str,
    typer.Option(
        help="Layers, with commas in between.",
        show_default="the suite's",
        autocompletion=completion.norms,
    ),
]
Activations = Annotated[
    str, typer.Option(help="What is fused behind each layer, with commas in between.")
]
Rounds = Annotated[int, typer.Option(help="How often every contender is timed, in turn.")]
Device = Annotated[str, typer.Option(help="Where, e.g. cpu or cuda:0.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="The result file; a plot goes beside it.",
        show_default="benchmarks/results/<device>/; nothing with sizes or norms of your own",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a result that is there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else.")]
Compile = Annotated[bool, typer.Option("--compile/--no-compile", help="PyG compiled as well.")]
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
    ) -> None:
        from graphnorms.bench import Settings, run
        from graphnorms.bench.machine import describe
        from graphnorms.bench.results import FOLDER, Result, require_free
        from graphnorms.bench.settings import LARGE, Shape

        own = None
        if rows is not None or channels is not None or graphs is not None:
            # What is not said is as in the large shape: 0 is for Shape to refuse.
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
        )
        if out is None and settings.standard:
            empty = Result(name, "", "", describe(device), {}, ())
            out = FOLDER / empty.path
        if out is not None:
            require_free(out, force=force)
        typed = shlex.join(["graphnorms", *sys.argv[1:]])
        result = run(name, settings, command=typed, say=_say)
        _show(result, out, force=force, as_json=as_json)

    bench.command(name, help=purpose)(command)


def _show(result: Result, out: Path | None, *, force: bool, as_json: bool) -> None:
    from graphnorms.bench import plots
    from graphnorms.bench.results import save
    from graphnorms.bench.tables import preamble, tables_of

    if as_json:
        print(result.to_json(), end="")
    else:
        print(preamble(result))
        for table in tables_of(result):
            print(f"\n{table.as_text()}")
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


_command("layers", "Every layer against PyG's (eager, compiled), torch's own, and a copy.")
_command("calls", "Microseconds per small call.")
_command("memory", "Bytes kept for the backward, and the peak.")
_command("epoch", "A GIN epoch against PyG's, and against its matrix products alone.")
_command("scaling", "Cost per element against rows, channels, graphs and segment length.")
_command("lab", "The trials of a comparison against the same written with PyG.")
_command("hook", "A step of PyG's GIN with exchanged norms: what finding the batch costs.")


@bench.command()
def page(
    file: Annotated[Path, typer.Argument(help="The page to fill in.")] = Path("docs/benchmarks.md"),
    results: Annotated[Path, typer.Option(help="The folder of results.")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Fill the tables of the documentation in from the result files."""
    from graphnorms.bench.page import fill

    file.write_text(fill(file, results), encoding="utf-8")
    _say(f"filled in: {file}")
