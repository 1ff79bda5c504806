"""The command that says what data hold and what they allow."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from graphnorms import interrupts
from graphnorms.cli import reading
from graphnorms.cli.terminal import terminal


def data(
    dataset: reading.Dataset = None,
    protocol: reading.Protocol = None,
    split: reading.Split = None,
    folds: reading.Folds = None,
    repeats: reading.Repeats = None,
    group_twins: reading.GroupTwins = False,
    metric: reading.Metric = None,
    task: reading.Task = None,
    features: reading.Features = None,
    edge_features: reading.EdgeFeatures = None,
    keep_loops: reading.KeepLoops = None,
    keep_repeats: reading.KeepRepeats = None,
    drop_empty: reading.DropEmpty = False,
    drop_rare: reading.DropRare = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the facts as JSON, and nothing else.")
    ] = False,
) -> int:
    """Say what data hold and what they allow: twins, contradictions, what simple models score.

    Nothing is trained but models that see no edges. Twins are isomorphic graphs: where they have
    different targets they set a ceiling, and across folds they tell the answer.
    """
    with interrupts.loading():
        from graphnorms.cli.plan import data_lines
        from graphnorms.lab.examine import examine
        from graphnorms.lab.options import Choices

    found = examine(
        dataset,
        choices=Choices(
            protocol=protocol,
            split=split,
            folds=folds,
            repeats=repeats,
            group_twins=group_twins or None,
            metric=metric,
        ),
        task=task,
        features=features,
        edge_features=edge_features,
        keep_loops=keep_loops,
        keep_repeats=keep_repeats,
        drop_empty=drop_empty or None,
        drop_rare=drop_rare,
    )
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        terminal(highlight=False).print("\n".join(data_lines(found)), markup=False)
    return 0
