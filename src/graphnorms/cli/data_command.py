"""The command `data`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from graphnorms import interrupts
from graphnorms.cli.option_parameters import Dataset, takes_options
from graphnorms.cli.terminal import by_subject, terminal
from graphnorms.lab.options import Options


@takes_options(
    *("protocol", "split", "folds", "repeats", "group_twins", "metric"),
    *("task", "features", "edge_features"),
    *("keep_loops", "keep_repeats", "drop_empty", "drop_rare"),
    *("smiles", "target", "edges", "root", "split_file"),
)
def data(
    dataset: Dataset = None,
    *,
    options: Options,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the facts as JSON, and nothing else.")
    ] = False,
    pack: Annotated[
        Path | None,
        typer.Option(
            "--pack",
            help="Write the graphs as a packed folder instead, to be read from disk.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Describe data and what they allow: twins, contradictions, scores of simple models.

    Only models that see no edges are trained. Twins are isomorphic graphs: twins with different
    targets set a ceiling on the score, and twins in different folds reveal the answer.
    """
    with interrupts.loading():
        from graphnorms.lab.examine import examine
        from graphnorms.lab.plan_sentences import data_lines
        from graphnorms.lab.sources import DEFAULT_DATASET

    if pack is not None:
        from graphnorms.data.load import pack_dataset

        graphs = pack_dataset(dataset or DEFAULT_DATASET, pack, **options.reading)
        terminal().print(f"{graphs}\n{graphs.describe()}\npacked: {pack}", markup=False)
        return 0
    found = examine(dataset, options)
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        terminal().print(by_subject(data_lines(found)))
    return 0
