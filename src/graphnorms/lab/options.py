"""The options of a comparison, each defined once.

A field of `Options` has the help of the command line, the possible values, the source of its
default, and the protocols where it applies. The command line is generated from these fields,
`graphnorms.compare` has a parameter for each (a test compares them), and `Options.of` turns the
settings of a stored run back into options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from graphnorms.lab.budgets import BUDGETS, QUICK
from graphnorms.lab.treatments import check_vary
from graphnorms.lab.values import FLAG, TEXT, Kind, integer, is_duration, list_of, number

if TYPE_CHECKING:
    from graphnorms.lab.settings import Settings
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory

Part: TypeAlias = Literal["comparison", "reading", "running"]
Group: TypeAlias = Literal["comparison", "model", "data", "training", "machine", "output"]

PROTOCOLS: Final = ("nested", "split", "paper")
FOLDED: Final = ("nested", "paper")
"""The protocols with a cross-validation."""

BASELINE: Final = "none"
DEFAULT_NORMS: Final = ("none", "batch", "layer", "instance", "graph")
DEFAULT_NORM: Final = "batch"
"""The only norm by default where something else is varied."""

DEFAULT_PRESET: Final = "default"
DEFAULT_DEVICE: Final = "cpu"
DEFAULT_ENGINE: Final = "local"

_NORMS: Final = Kind("a text, or a list of texts and of what makes a norm", str | Sequence)
_MODEL: Final = Kind(
    "a name, or a function that makes a model",
    fits=lambda value: isinstance(value, str) or callable(value) or hasattr(value, "function"),
)
_FOLDER: Final = Kind("a folder", str | Path)
_VARY: Final = Kind("options with lists of values, such as {'layers': [2, 4, 8]}", Mapping)
_METRICS: Final = (
    *("accuracy", "balanced_accuracy", "macro_f1", "mcc", "roc_auc", "average_precision"),
    *("mae", "rmse", "std_mae", "std_rmse", "r2"),
)
"""The names in `graphnorms.training.METRICS`, without loading torch."""


@dataclass(frozen=True, kw_only=True)
class About:
    """Description of one option.

    Args:
        help: Text for the command line.
        default: Source of the value if the option is not given.
        kind: Possible values.
        words: Values that the shell completes.
        part: `"comparison"`: what is compared, and how. `"reading"`: how data are read.
            `"running"`: where trials run and records go, which changes no trial.
        protocols: The protocols where it applies.
        instead: A hint for the other protocols.
        flags: Names on the command line; by default `--` and the name of the field.
        group: Heading in the help of the command line.
    """

    help: str
    default: str | bool = True
    kind: Kind = TEXT
    words: tuple[str, ...] = ()
    part: Part = "comparison"
    protocols: tuple[str, ...] = PROTOCOLS
    instead: str = ""
    flags: tuple[str, ...] = ()
    group: Group = "comparison"


def _option(help: str, default: str | bool = True, *, value: Any = None, **about: Any) -> Any:
    return field(default=value, metadata={"about": About(help=help, default=default, **about)})


_OF_PRESET, _OF_BUDGET, _OF_DATA = "the preset's", "the budget's", "what the data suggest"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a comparison; None leaves a value to the data, the preset and the budget.

    `graphnorms.compare` documents them.
    """

    norms: Sequence[str | OwnNorm | Callable[..., Any]] | str | None = _option(
        "Normalizations, separated by commas; module:function is one of your own; none is always "
        "among them.",
        ",".join(DEFAULT_NORMS),
        kind=_NORMS,
    )
    vary: Mapping[str, Sequence[Any]] | None = _option(
        "An option with its values, such as layers=2,4,8: each of them with each norm is a "
        "treatment, compared as norms are; norms are then batch alone by default. Give it again "
        "for combinations with another option.",
        default=False,
        value=None,
        kind=_VARY,
    )
    protocol: str | None = _option(
        "nested: cross-validation with validation data inside each fold. split: one split, several "
        "seeds. paper: epoch and learning rate chosen by the reported score, optimistic.",
        "split where the data carry one, else nested",
        kind=Kind("text", str, words=PROTOCOLS),
        words=PROTOCOLS,
    )
    budget: str | None = _option(
        "quick, standard or full: learning rates, epochs and seeds.",
        QUICK,
        kind=Kind("text", str, words=tuple(BUDGETS)),
        words=tuple(BUDGETS),
    )
    model: str | Callable[..., Any] | ModelFactory | None = _option(  # noqa: RUF009
        "gin, gine (with edge features), gcn, sage, gat, gatedgcn, gps (attention beside message "
        "passing), or module:function, a model of your own.",
        "by the data",
        kind=_MODEL,
        words=("gin", "gcn", "gine", "sage", "gat", "gatedgcn", "gps"),
        group="model",
    )
    preset: str | None = _option(
        "default, or graphnorm-paper: architecture and training of the GraphNorm paper.",
        DEFAULT_PRESET,
        words=("default", "graphnorm-paper"),
        group="model",
    )
    norm_place: str | None = _option(
        "before-activation or after-activation; for gps post, pre or sandwich.",
        "the model's",
        words=("before-activation", "after-activation", "post", "pre", "sandwich"),
        group="model",
    )
    residual: str | None = _option(
        "Residual connections: none, added after-norm or before-norm, rezero or deepnorm.",
        "the model's",
        words=("none", "after-norm", "before-norm", "rezero", "deepnorm"),
        group="model",
    )
    edge_norm: str | None = _option(
        "Norm of gatedgcn's edges: same (as of the nodes), none, or a norm.",
        "same",
        group="model",
    )
    qk_norm: str | None = _option(
        "Norm of gps's queries and keys, per head: none, layer, rms or l2.",
        "none",
        words=("none", "layer", "rms", "l2"),
        group="model",
    )
    heads: int | None = _option(
        "Attention heads of gat and gps.",
        "4",
        kind=integer(1),
        group="model",
    )
    layers: int | None = _option(
        "Number of convolutions or blocks.",
        _OF_PRESET,
        kind=integer(1),
        group="model",
    )
    hidden: int | None = _option(
        "Channels of each convolution.",
        _OF_PRESET,
        kind=integer(1),
        group="model",
    )
    task: str | None = _option(
        "classification, binary or regression.",
        _OF_DATA,
        part="reading",
        group="data",
    )
    features: str | None = _option(
        "Node features: labels, attributes, degree or constant.",
        _OF_DATA,
        part="reading",
        group="data",
    )
    edge_features: str | None = _option(
        "Edge features: labels, attributes or none.",
        _OF_DATA,
        part="reading",
        group="data",
    )
    keep_loops: bool | None = _option(
        "Edges from a node to itself.",
        "dropped of TU folders, as in PyG",
        kind=FLAG,
        part="reading",
        flags=("--keep-loops", "--drop-loops"),
        group="data",
    )
    keep_repeats: bool | None = _option(
        "Edges that are listed again.",
        "merged in TU folders, as in PyG",
        kind=FLAG,
        part="reading",
        flags=("--keep-repeats", "--merge-repeats"),
        group="data",
    )
    drop_empty: bool | None = _option(
        "Leave out graphs without nodes.",
        kind=FLAG,
        part="reading",
        flags=("--drop-empty",),
        group="data",
    )
    drop_rare: int | None = _option(
        "Leave out classes with fewer items than this.",
        "none",
        kind=integer(0),
        part="reading",
        group="data",
    )
    smiles: str | None = _option(
        "The column of SMILES in a table of molecules.", "guessed", part="reading", group="data"
    )
    target: str | None = _option(
        "What to predict: columns of a table, separated by commas, or attributes of GraphML.",
        "guessed",
        part="reading",
        group="data",
    )
    edges: str | None = _option(
        "The table of edges, for a table of the nodes of one graph.",
        False,
        part="reading",
        group="data",
    )
    root: str | None = _option(
        "The folder of the data sets of PyG.", "data", part="reading", group="data", kind=_FOLDER
    )
    split_file: str | None = _option(
        "Which items to train on, validate and test: .json of chemprop, .npz, or a line for each "
        "item; several splits are possible.",
        False,
        part="reading",
        group="data",
        protocols=("split",),
        instead="for the splits of the file use --protocol split",
    )
    metric: str | None = _option(
        "What norms are judged by; every other metric of the task is recorded beside it. Classes: "
        "accuracy, balanced_accuracy, macro_f1, mcc; task binary also roc_auc, average_precision. "
        "One number: mae, rmse, r2; several: std_mae, std_rmse, r2.",
        "the task's",
        words=_METRICS,
    )
    split: str | None = _option(
        "given, random, or for molecules scaffold:hashed, scaffold:balanced:0,1,2, "
        "scaffold:deepchem; asks for protocol split.",
        "given, if there is one",
        protocols=("split",),
    )
    folds: int | None = _option(
        "Folds of the cross-validation.",
        "10, or more where that many norms take more",
        kind=integer(1),
        protocols=FOLDED,
    )
    repeats: int | None = _option(
        "Cross-validations, each with other folds.",
        "1",
        kind=integer(1),
        protocols=FOLDED,
        instead="for more seeds on one split use --runs",
    )
    group_twins: bool | None = _option(
        "Keep isomorphic graphs in one fold.", kind=FLAG, flags=("--group-twins",)
    )
    runs: int | None = _option(
        "Seeds tested per fold, or on the one split.", _OF_BUDGET, kind=integer(1)
    )
    time: str | float | None = _option(
        "Plan what fits into a time, e.g. 90m or 1h30m: fewer runs, learning rates, epochs and "
        "folds, but nothing that is given.",
        False,
        kind=Kind("a time such as 1h, 90m or 1h30m", fits=is_duration),
        part="running",
    )
    epochs: int | None = _option(
        "Passes over the training data.", _OF_BUDGET, kind=integer(1), group="training"
    )
    learning_rate: float | Sequence[float] | None = _option(
        "Adam's learning rate in the first epoch: one, or several separated by commas.",
        _OF_BUDGET,
        kind=list_of(number("a number > 0", lambda value: value > 0), or_one=True),
        flags=("--lr",),
        group="training",
    )
    weight_decay: float | None = _option(
        "Adam's L2 penalty.",
        _OF_PRESET,
        kind=number("a number ≥ 0", lambda value: value >= 0),
        group="training",
    )
    batch_size: int | None = _option(
        "Graphs in a minibatch.", _OF_PRESET, kind=integer(1), group="training"
    )
    margin: float | None = _option(
        "Differences of scores below this are of no practical interest; of fractions 0.01 is one "
        "point.",
        "one point, or 1% of the score",
        kind=number("a number > 0", lambda value: value > 0),
    )
    seed: int | None = _option(
        "Seeds weights, batch order and dropout.", "0", kind=integer(0), group="training"
    )
    device: str | None = _option(
        "Where to train, e.g. cpu or cuda:0.", DEFAULT_DEVICE, group="machine"
    )
    engine: str | None = _option(
        "Where trials run: local processes, dask or slurm.",
        DEFAULT_ENGINE,
        words=("local", "dask", "slurm"),
        part="running",
        group="machine",
    )
    engine_options: Mapping[str, Any] | str | None = _option(
        "What Slurm is asked for in every job, e.g. partition=gpu,time=60,mem=8G.",
        False,
        kind=Kind("name=value, separated by commas", str | Mapping),
        part="running",
        group="machine",
    )
    scheduler: str | None = _option(
        "Address of the dask scheduler, e.g. tcp://localhost:8786.",
        False,
        part="running",
        group="machine",
    )
    workers: int | None = _option(
        "Local trials at a time.",
        "one per core",
        kind=integer(1),
        part="running",
        group="machine",
    )
    timeout: float | None = _option(
        "Seconds that a trial may take; one that takes longer has failed.",
        "no limit",
        kind=number("a number > 0, in seconds", lambda value: value > 0),
        part="running",
        group="machine",
    )
    config: str | Path | None = _option(  # noqa: RUF009
        "A TOML file of options; the command line overrides it. Every run writes its own, "
        "run.toml.",
        False,
        kind=Kind("a file", str | Path),
        part="running",
        group="output",
    )
    log: str | Sequence[str] | None = _option(
        "Log every trial to tensorboard, wandb or mlflow, or several with commas; the "
        "destination follows a colon: mlflow:http://host:5000.",
        False,
        kind=list_of(TEXT, or_one=True),
        words=("tensorboard", "wandb", "mlflow"),
        part="running",
        group="output",
    )
    out: str | Path | None = _option(  # noqa: RUF009
        "The run's folder.",
        "runs/<dataset>-<model>",
        kind=_FOLDER,
        part="running",
        flags=("--out", "-o"),
        group="output",
    )
    resume: bool = _option(
        "Continue the run in the folder; its settings are the defaults.",
        value=False,
        kind=FLAG,
        part="running",
        flags=("--resume",),
        group="output",
    )

    def said(self, *parts: Part) -> dict[str, Any]:
        """Return the given options by name: those of some parts, by default all but `"running"`."""
        wanted = parts or ("comparison", "reading")
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None and about(name).part in wanted
        }

    def check(self) -> None:
        """Check the value of every option that is given.

        Raises:
            ValueError: A value is not possible.
        """
        for name, value in self.said("comparison", "reading", "running").items():
            about(name).kind.require(name, value)
        if self.vary is not None:
            every = {each.name: about(each.name) for each in fields(self)}
            check_vary(self.vary, every, self.said())

    def check_protocol(self, protocol: str) -> None:
        """Check that every option applies to a protocol.

        Raises:
            ValueError: One does not.
        """
        for name, value in self.said().items():
            one = about(name)
            if protocol not in one.protocols:
                hint = f"; {one.instead}" if one.instead else ""
                raise ValueError(
                    f"{name} is {value!r:.100}, but it goes with protocol "
                    f"{' or '.join(one.protocols)}, and the protocol is {protocol}; leave it out"
                    f"{hint}"
                )

    @property
    def by_scaffold(self) -> bool:
        """Whether molecules are divided by scaffold, which happens when they are read."""
        return self.split is not None and self.split.startswith("scaffold")

    @property
    def reading(self) -> dict[str, Any]:
        """Keyword arguments for `graphnorms.data.load_dataset`."""
        return self.said("reading") | ({"split_by": self.split} if self.by_scaffold else {})

    def or_those_of(self, stored: Options) -> Self:
        """Complete the options with those of the run to continue."""
        if self.protocol not in (None, stored.protocol):
            # `Run` reports the contradiction; these options would be refused first.
            stored = replace(stored, folds=None, repeats=None, split=None)
        if self.vary is not None:
            cleared: dict[str, Any] = dict.fromkeys(("vary", *self.vary))
            stored = replace(stored, **cleared)
        return replace(self, **stored.said() | self.said())

    @classmethod
    def of(cls, settings: Settings, reading: Mapping[str, Any]) -> Self:
        """Return options that resolve to the settings of a run, independent of any default.

        Args:
            settings: Of the run.
            reading: How its data were read.
        """
        architecture = settings.shared_architecture
        # The user's own model does not tell where its residual connections are.
        residual = {True: architecture.get("residual_place"), False: "none", None: None}
        found: dict[str, Any] = {
            each.name: getattr(settings, each.name, architecture.get(each.name))
            for each in fields(cls)
            if about(each.name).part == "comparison"
            and settings.protocol in about(each.name).protocols
        }
        found |= {
            "learning_rate": settings.learning_rates,
            "residual": residual[architecture.get("residual")],
            "group_twins": settings.group_twins or None,
            "vary": settings.vary or None,
        }
        found |= dict.fromkeys(settings.vary)
        for name, value in reading.items():
            if name == "split_by":
                found["split"] = value
            elif name in cls.__dataclass_fields__:
                found[name] = value
        return cls(**found)


def about(name: str) -> About:
    """Return the description of an option."""
    found: About = Options.__dataclass_fields__[name].metadata["about"]
    return found
