"""The options that say which data are read, and how."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from graphnorms.cli import completion
from graphnorms.cli.completion import one_of
from graphnorms.lab.settings import PROTOCOLS
from graphnorms.training.metrics import METRICS

_OF_DATA = "what the data suggest"

Dataset: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="An embedded set (MUTAG, nci5k), a TUDataset's name, a folder in TU format, a "
        "powerful-gnns text file, an .npz file, or module:factory.",
        show_default="MUTAG",
        autocompletion=completion.datasets,
    ),
]
Task: TypeAlias = Annotated[
    str | None,
    typer.Option(help="classification, binary or regression.", show_default=_OF_DATA),
]
Features: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="Node features: labels, attributes, degree or constant.", show_default=_OF_DATA
    ),
]
EdgeFeatures: TypeAlias = Annotated[
    str | None,
    typer.Option(help="labels, attributes or none.", show_default=_OF_DATA),
]
KeepLoops: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--keep-loops/--drop-loops",
        help="Edges from a node to itself.",
        show_default="dropped of TU folders, as in PyG",
    ),
]
KeepRepeats: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--keep-repeats/--merge-repeats",
        help="Edges that are listed again.",
        show_default="merged in TU folders, as in PyG",
    ),
]
DropEmpty: TypeAlias = Annotated[
    bool, typer.Option("--drop-empty", help="Leave out graphs without nodes.")
]
DropRare: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Leave out classes of fewer items than this.", show_default="none"),
]
Protocol: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="nested: cross-validation with validation data inside each fold. split: one "
        "split, several seeds. paper: epoch and learning rate chosen by the reported score, "
        "optimistic.",
        show_default="nested",
        autocompletion=one_of(*PROTOCOLS),
    ),
]
Metric: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="accuracy, roc_auc, average_precision, mae, rmse, std_mae or std_rmse.",
        show_default="the task's",
        autocompletion=one_of(*METRICS),
    ),
]
Split: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="given, random, or for molecules scaffold:hashed, scaffold:balanced:0,1,2, "
        "scaffold:deepchem; for protocol split.",
        show_default="given, if there is one",
    ),
]
Folds: TypeAlias = Annotated[
    int | None,
    typer.Option(
        help="Folds of the cross-validation.", show_default="10, or as many as so many norms take"
    ),
]
Repeats: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Cross-validations, each of other folds.", show_default="1"),
]
GroupTwins: TypeAlias = Annotated[
    bool, typer.Option("--group-twins", help="Keep isomorphic graphs in one fold.")
]
