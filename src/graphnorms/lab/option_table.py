"""The table of the options of a comparison, each defined once.

A field has the help of the command line, the possible values, the source of its default, and the
protocols where it applies. The command line is generated from these fields, and
`graphnorms.compare` has a parameter for each (a test compares them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.lab.budgets import BUDGETS, QUICK
from graphnorms.lab.halving import HALVING
from graphnorms.lab.option_kinds import (
    DEFAULT_DEVICE,
    DEFAULT_ENGINE,
    DEFAULT_NORMS,
    DEFAULT_PRESET,
    FOLDED,
    FOLDER,
    MEASURED,
    METRIC_NAMES,
    MODEL,
    NEIGHBOURS,
    NORMS,
    OF_BUDGET,
    OF_DATA,
    OF_PRESET,
    PROTOCOLS,
    REASONS,
    SEARCH,
    TRIAL,
    VARY,
    About,
    data_option,
    machine_option,
    model_option,
    option,
    output_option,
    training_option,
)
from graphnorms.lab.search_space import RANGES
from graphnorms.lab.values import FLAG, TEXT, Kind, integer, is_duration, list_of, number
from graphnorms.training.trial_config import OPTIMIZERS, SCHEDULES

if TYPE_CHECKING:
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory


@dataclass(frozen=True, kw_only=True)
class OptionTable:
    """The options of a comparison; None leaves a value to the data, the preset and the budget.

    `graphnorms.compare` documents them.
    """

    norms: Sequence[str | OwnNorm | Callable[..., Any]] | str | None = option(
        "Normalizations, separated by commas; module:function is one of your own; none is always "
        "among them.",
        ",".join(DEFAULT_NORMS),
        kind=NORMS,
    )
    vary: Mapping[str, Sequence[Any]] | None = option(
        "An option with its values, such as layers=2,4,8: each of them with each norm is a "
        "treatment, compared as norms are; norms are then batch alone by default. Give it again "
        "for combinations with another option.",
        default=False,
        value=None,
        kind=VARY,
    )
    protocol: str | None = option(
        "nested: cross-validation with validation data inside each fold. split: one split, several "
        "seeds. paper: epoch and learning rate chosen by the reported score, optimistic.",
        "split where the data carry one, else nested",
        kind=Kind("text", str, words=PROTOCOLS),
        words=PROTOCOLS,
    )
    budget: str | None = option(
        "quick, standard or full: learning rates, epochs and seeds.",
        QUICK,
        kind=Kind("text", str, words=tuple(BUDGETS)),
        words=tuple(BUDGETS),
    )
    model: str | Callable[..., Any] | ModelFactory | None = model_option(  # noqa: RUF009
        "gin, gine (with edge features), gcn, sage, gat, gatedgcn, gps (attention beside message "
        "passing), or module:function, a model of your own; for energies and forces painn or "
        "equivariant.",
        "by the data",
        kind=MODEL,
        words=("gin", "gcn", "gine", "sage", "gat", "gatedgcn", "gps", "painn", "equivariant"),
    )
    trial: str | Callable[..., Any] | None = training_option(  # noqa: RUF009
        "module:function of yours that trains and returns the score: "
        "function(norm, split, seed, report).",
        "the lab trains",
        kind=TRIAL,
    )
    preset: str | None = model_option(
        "default, or graphnorm-paper: architecture and training of the GraphNorm paper; "
        "graphnorm-table: with a learned ε, as in the scripts for its table.",
        DEFAULT_PRESET,
        words=("default", "graphnorm-paper", "graphnorm-table"),
    )
    norm_place: str | None = model_option(
        "before-activation or after-activation; for gps post, pre or sandwich.",
        "the model's",
        words=("before-activation", "after-activation", "post", "pre", "sandwich"),
    )
    residual: str | None = model_option(
        "Residual connections: none, added after-norm or before-norm, rezero or deepnorm.",
        "the model's",
        words=("none", "after-norm", "before-norm", "rezero", "deepnorm"),
    )
    edge_norm: str | None = model_option(
        "Norm of gatedgcn's edges: same (as of the nodes), none, or a norm; of painn and "
        "equivariant of their radial functions.",
        "same; none for energies and forces",
    )
    qk_norm: str | None = model_option(
        "Norm of gps's queries and keys, per head: none, layer, rms or l2.",
        "none",
        words=("none", "layer", "rms", "l2"),
    )
    heads: int | None = model_option("Attention heads of gat and gps.", "4", kind=integer(1))
    layers: int | None = model_option("Convolutions or blocks.", OF_PRESET, kind=integer(1))
    hidden: int | None = model_option("Channels of each convolution.", OF_PRESET, kind=integer(1))
    dropout: float | None = model_option(
        "Dropout probability at the end of the model, of gps also in its blocks.",
        OF_PRESET,
        kind=number("a number from 0 to below 1", lambda value: 0 <= value < 1),
    )
    task: str | None = data_option("classification, binary or regression.", OF_DATA)
    features: str | None = data_option(
        "Node features: labels, attributes, degree or constant.", OF_DATA
    )
    edge_features: str | None = data_option("Edge features: labels, attributes or none.", OF_DATA)
    keep_loops: bool | None = data_option(
        "Edges from a node to itself.",
        "dropped of TU folders, as in PyG",
        kind=FLAG,
        flags=("--keep-loops", "--drop-loops"),
    )
    keep_repeats: bool | None = data_option(
        "Edges that are listed again.",
        "merged in TU folders, as in PyG",
        kind=FLAG,
        flags=("--keep-repeats", "--merge-repeats"),
    )
    drop_empty: bool | None = data_option(
        "Leave out graphs without nodes.", kind=FLAG, flags=("--drop-empty",)
    )
    drop_rare: int | None = data_option(
        "Leave out classes with fewer items than this.", "none", kind=integer(0)
    )
    smiles: str | None = data_option("The column of SMILES in a table of molecules.", "guessed")
    target: str | None = data_option(
        "What to predict: columns of a table, separated by commas, or attributes of GraphML; of "
        "extended XYZ the names of energy and forces, such as REF_energy,REF_forces.",
        "guessed",
    )
    edges: str | None = data_option(
        "The table of edges, for a table of the nodes of one graph.", False
    )
    cutoff: float | None = data_option(
        "Radius in Å within which atoms of extended XYZ are joined by edges.",
        "5",
        kind=number("a number > 0, in Å", lambda value: value > 0),
    )
    root: str | None = data_option("The folder of the data sets of PyG.", "data", kind=FOLDER)
    split_file: str | None = data_option(
        "Which items to train on, validate and test: .json of chemprop, .npz, or a line for each "
        "item; several splits are possible.",
        False,
        protocols=("split",),
        instead="for the splits of the file use --protocol split",
    )
    metric: str | None = option(
        "What norms are judged by; every other metric of the task is recorded beside it. Classes: "
        "accuracy, balanced_accuracy, macro_f1, mcc; task binary also roc_auc, average_precision. "
        "One number: mae, rmse, r2; several: std_mae, std_rmse, r2. Energies and forces: "
        "force_mae, energy_mae, force_rmse, energy_rmse.",
        "the task's",
        words=METRIC_NAMES,
    )
    split: str | None = option(
        "given, random, or for molecules scaffold:hashed, scaffold:balanced:0,1,2, "
        "scaffold:deepchem; asks for protocol split.",
        "given, if there is one",
        protocols=("split",),
    )
    folds: int | None = option(
        "Folds of the cross-validation.",
        "10, or more where that many norms take more",
        kind=integer(1),
        protocols=FOLDED,
    )
    repeats: int | None = option(
        "Cross-validations, each with other folds.",
        "1",
        kind=integer(1),
        protocols=FOLDED,
        instead="for more seeds on one split use --runs",
    )
    group_twins: bool | None = option(
        "Keep isomorphic graphs in one fold.", kind=FLAG, flags=("--group-twins",)
    )
    runs: int | None = option(
        "Seeds tested per fold, or on the one split.", OF_BUDGET, kind=integer(1)
    )
    time: str | float | None = option(
        "Plan what fits into a time, e.g. 90m or 1h30m: fewer runs, learning rates, epochs and "
        "folds, but nothing that is given.",
        False,
        kind=Kind("a time such as 1h, 90m or 1h30m", fits=is_duration),
        part="running",
    )
    epochs: int | None = training_option("Passes over the data.", OF_BUDGET, kind=integer(1))
    optimizer: str | None = training_option(
        "adam, adamw or sgd, with further arguments of torch's class after a colon.",
        "adam",
        words=OPTIMIZERS,
    )
    learning_rate: float | Sequence[float] | None = training_option(
        "Learning rate after the warm-up: one, or several separated by commas.",
        OF_BUDGET,
        kind=list_of(number("a number > 0", lambda value: value > 0), or_one=True),
        flags=("--lr",),
    )
    search: Mapping[str, str] | Sequence[str] | str | None = training_option(
        "Options to choose for each norm and fold on validation data, with the learning rate: "
        "dropout, weight_decay, layers, hidden, batch_size; also dropout=0:0.5,layers=2|4|8. Or "
        "halving: the learning rate alone, the better half of the rates in trials twice as long.",
        False,
        kind=SEARCH,
        words=(*RANGES, HALVING),
        protocols=("nested", "split"),
        instead="that protocol reports the score that chooses",
    )
    proposals: int | None = training_option(
        "Values of all searched options that are tried for each norm and fold.",
        OF_BUDGET,
        kind=integer(2),
        protocols=("nested", "split"),
        instead="that protocol searches nothing",
    )
    schedule: str | None = training_option(
        "Learning rate after the warm-up: constant, or linear or cosine decay to 0.",
        OF_PRESET,
        kind=Kind("text", str, words=SCHEDULES),
        words=SCHEDULES,
    )
    warmup: int | None = training_option(
        "Epochs in which the learning rate rises linearly from 0.", "0", kind=integer(0)
    )
    weight_decay: float | None = training_option(
        "L2 penalty; of adamw the decay of all weights.",
        "the preset's; of adamw 0.01",
        kind=number("a number ≥ 0", lambda value: value >= 0),
    )
    clip: float | None = training_option(
        "Largest norm of the gradient.",
        "no limit",
        kind=number("a number > 0", lambda value: value > 0),
    )
    force_weight: float | None = training_option(
        "Weight of the squared errors of forces in the loss, beside that of the energy per atom.",
        "10",
        kind=number("a number ≥ 0", lambda value: value >= 0),
    )
    patience: int | None = training_option(
        "End a trial after so many epochs without a better validation score.",
        "train all epochs",
        kind=integer(1),
        protocols=("nested", "split"),
        instead="that protocol chooses one epoch for all folds",
    )
    batch_size: int | None = training_option(
        "Graphs in a minibatch, or with --num-neighbors nodes.", OF_PRESET, kind=integer(1)
    )
    num_neighbors: int | Sequence[int] | None = training_option(
        "Train on one large graph by so many sampled neighbours of a node: for each layer, such as "
        "10,10, or one for all; -1: all neighbours.",
        "the whole graph",
        kind=NEIGHBOURS,
        flags=("--num-neighbors", "--neighbours"),
    )
    margin: float | None = option(
        "Differences of scores below this are of no practical interest; of fractions 0.01 is one "
        "point.",
        "one point, or 1% of the score",
        kind=number("a number > 0", lambda value: value > 0),
    )
    reasons: str | None = option(
        "Why norms differ: none, measured in the trained models, or tested by more trials too.",
        MEASURED,
        kind=Kind("text", str, words=REASONS),
        words=REASONS,
    )
    seed: int | None = training_option(
        "Seeds weights, batch order and dropout.", "0", kind=integer(0)
    )
    device: str | None = option(
        "Where to train, e.g. cpu or cuda:0.", DEFAULT_DEVICE, group="machine"
    )
    engine: str | None = machine_option(
        "Where trials run: local processes, dask or slurm.",
        DEFAULT_ENGINE,
        words=("local", "dask", "slurm"),
    )
    engine_options: Mapping[str, Any] | str | None = machine_option(
        "What Slurm is asked for in every job, e.g. partition=gpu,time=60,mem=8G.",
        False,
        kind=Kind("name=value, separated by commas", str | Mapping),
    )
    scheduler: str | None = machine_option(
        "Address of the dask scheduler, e.g. tcp://localhost:8786.", False
    )
    workers: int | None = machine_option("Local trials at a time.", "one per core", kind=integer(1))
    timeout: float | None = machine_option(
        "Seconds that a trial may take; one that takes longer has failed.",
        "no limit",
        kind=number("a number > 0, in seconds", lambda value: value > 0),
    )
    config: str | Path | None = output_option(  # noqa: RUF009
        "A TOML file of options; the command line overrides it. Every run writes its own, "
        "run.toml.",
        False,
        kind=Kind("a file", str | Path),
    )
    log: str | Sequence[str] | None = output_option(
        "Log every trial to tensorboard, wandb or mlflow, or several with commas; the "
        "destination follows a colon: mlflow:http://host:5000.",
        False,
        kind=list_of(TEXT, or_one=True),
        words=("tensorboard", "wandb", "mlflow"),
    )
    out: str | Path | None = output_option(  # noqa: RUF009
        "The run's folder.", "runs/<dataset>-<model>", kind=FOLDER, flags=("--out", "-o")
    )
    resume: bool = output_option(
        "Continue the run in the folder; its settings are the defaults.",
        value=False,
        kind=FLAG,
        flags=("--resume",),
    )


def about(name: str) -> About:
    """Return the description of an option."""
    found: About = OptionTable.__dataclass_fields__[name].metadata["about"]
    return found
