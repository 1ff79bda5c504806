"""The command `choose`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from graphnorms import interrupts
from graphnorms.cli.option_parameters import Dataset, takes_options
from graphnorms.cli.terminal import say, terminal
from graphnorms.lab.options import Options


@takes_options(
    *("protocol", "split", "folds", "repeats", "group_twins", "metric", "epochs"),
    *("model", "layers", "hidden", "batch_size"),
    *("task", "features", "edge_features"),
    *("keep_loops", "keep_repeats", "drop_empty", "drop_rare"),
    *("smiles", "target", "edges", "root", "split_file", "workers"),
)
def choose(
    dataset: Dataset = None,
    *,
    options: Options,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the advice as JSON, and nothing else.")
    ] = False,
) -> int:
    """Say which norms are worth a comparison on some data, and which not.

    Each with the fact, probe or study that says so; none of them is a score. A model is measured
    untrained with each norm, and trained for a few steps. Ends with the command of the comparison
    that follows, and how long it takes.
    """
    with interrupts.loading():
        from graphnorms.lab.choosing import advise, command_lines, lines

    found = advise(dataset, options)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        console = terminal(highlight=False)
        say(console, "\n".join([*lines(found, console.width), "", *command_lines(found)]))
    return 0
