"""The command `inspect`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from graphnorms import interrupts
from graphnorms.cli import completion
from graphnorms.cli.option_parameters import takes_options
from graphnorms.cli.terminal import terminal
from graphnorms.lab.options import Options


@takes_options(
    *("layers", "hidden", "dropout"),
    *("task", "features", "edge_features"),
    *("keep_loops", "keep_repeats", "drop_empty", "drop_rare"),
    *("smiles", "target", "edges", "root"),
)
def inspect(
    model: Annotated[
        str, typer.Argument(help="module:name, a model, its class, or a function that makes it.")
    ],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DATA",
            help="The graphs, as compare takes them; module:factory may also return a loader of "
            "batches.",
            autocompletion=completion.datasets,
        ),
    ],
    *,
    options: Options,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Its state: of torch.save(model.state_dict()), of Lightning, or .safetensors.",
            show_default="untrained",
        ),
    ] = None,
    norm: Annotated[
        str,
        typer.Option(
            help="The norm for a function that takes norm.", autocompletion=completion.norm
        ),
    ] = "graph",
    batch_size: Annotated[int, typer.Option(help="Graphs in a minibatch.", min=1)] = 32,
    ranks: Annotated[int, typer.Option(help="Number of processes that will train it.", min=1)] = 1,
    compilers: Annotated[
        bool, typer.Option("--compile", help="Try torch.compile and torch.export on each norm.")
    ] = False,
    fail_on: Annotated[
        str | None,
        typer.Option(
            help="Exit with code 1 at a finding of this rank or a worse one: error, warning, note.",
            show_default=False,
            autocompletion=completion.one_of("error", "warning", "note"),
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print facts and findings as JSON, and nothing else.")
    ] = False,
) -> int:
    """Look at the norms of your model on real batches, and say what is wrong with them.

    Does the batch reach them, over how many rows are their statistics, do running statistics fit
    the data, what is lost: each finding with its numbers, why it matters, and the line that changes
    it, the most harmful first. Nothing is trained, and the model is not changed.
    """
    with interrupts.loading():
        from graphnorms.doctor import inspect as run
        from graphnorms.doctor.rendering import report_of
        from graphnorms.doctor.rules import require_rank
        from graphnorms.doctor.subject import (
            batches_of,
            load_checkpoint,
            make_model,
            read_data,
        )

    if fail_on is not None:
        require_rank(fail_on)
    options.check()
    given = read_data(data, options, batch_size)
    made = make_model(model, given, options, norm)
    if checkpoint is not None:
        load_checkpoint(made, checkpoint)
    found = run(made, batches_of(made, given, batch_size), ranks=ranks, compilers=compilers)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        terminal(highlight=False).print(report_of(found))
    return int(fail_on is not None and found.fails(fail_on))
