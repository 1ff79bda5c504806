"""The options of a comparison, each defined once.

A field of `Options` has the help of the command line, the possible values, the source of its
default, and the protocols where it applies. The command line is generated from these fields,
`graphnorms.compare` has a parameter for each (a test compares them), and `Options.of` and
`command_of` turn the settings of a stored run back into options.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from graphnorms.lab.budgets import BUDGETS, QUICK
from graphnorms.lab.values import FLAG, TEXT, Kind, integer, list_of, number

if TYPE_CHECKING:
    from graphnorms.lab.settings import Settings
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory

Part: TypeAlias = Literal["comparison", "reading", "running"]

PROTOCOLS: Final = ("nested", "split", "paper")
FOLDED: Final = ("nested", "paper")
"""The protocols with a cross-validation."""

BASELINE: Final = "none"
DEFAULT_NORMS: Final = ("none", "batch", "layer", "instance", "graph")
DEFAULT_PRESET: Final = "default"
DEFAULT_PROTOCOL: Final = "nested"
DEFAULT_DEVICE: Final = "cpu"

_NORMS: Final = Kind("a text, or a list of texts and of what makes a norm", str | Sequence)
_MODEL: Final = Kind(
    "a name, or a function that makes a model",
    fits=lambda value: isinstance(value, str) or callable(value) or hasattr(value, "function"),
)
_FOLDER: Final = Kind("a folder", str | Path)


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
    """

    help: str
    default: str | bool = True
    kind: Kind = TEXT
    words: tuple[str, ...] = ()
    part: Part = "comparison"
    protocols: tuple[str, ...] = PROTOCOLS
    instead: str = ""
    flags: tuple[str, ...] = ()


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
    protocol: str | None = _option(
        "nested: cross-validation with validation data inside each fold. split: one split, several "
        "seeds. paper: epoch and learning rate chosen by the reported score, optimistic.",
        DEFAULT_PROTOCOL,
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
        "gin, gine (with edge features), gcn, or module:function, a model of your own.",
        "by the data",
        kind=_MODEL,
        words=("gin", "gcn", "gine"),
    )
    preset: str | None = _option(
        "default, or graphnorm-paper: architecture and training of the GraphNorm paper.",
        DEFAULT_PRESET,
        words=("default", "graphnorm-paper"),
    )
    norm_place: str | None = _option(
        "before-activation or after-activation.",
        _OF_PRESET,
        words=("before-activation", "after-activation"),
    )
    residual: str | None = _option(
        "Residual connections: none, or added after-norm or before-norm.",
        _OF_PRESET,
        words=("none", "after-norm", "before-norm"),
    )
    layers: int | None = _option("Number of convolutions.", _OF_PRESET, kind=integer(1))
    hidden: int | None = _option("Channels of each convolution.", _OF_PRESET, kind=integer(1))
    task: str | None = _option("classification, binary or regression.", _OF_DATA, part="reading")
    features: str | None = _option(
        "Node features: labels, attributes, degree or constant.", _OF_DATA, part="reading"
    )
    edge_features: str | None = _option(
        "Edge features: labels, attributes or none.", _OF_DATA, part="reading"
    )
    keep_loops: bool | None = _option(
        "Edges from a node to itself.",
        "dropped of TU folders, as in PyG",
        kind=FLAG,
        part="reading",
        flags=("--keep-loops", "--drop-loops"),
    )
    keep_repeats: bool | None = _option(
        "Edges that are listed again.",
        "merged in TU folders, as in PyG",
        kind=FLAG,
        part="reading",
        flags=("--keep-repeats", "--merge-repeats"),
    )
    drop_empty: bool | None = _option(
        "Leave out graphs without nodes.", kind=FLAG, part="reading", flags=("--drop-empty",)
    )
    drop_rare: int | None = _option(
        "Leave out classes with fewer items than this.", "none", kind=integer(0), part="reading"
    )
    smiles: str | None = _option(
        "The column of SMILES in a table of molecules.", "guessed", part="reading"
    )
    target: str | None = _option(
        "What to predict: columns of a table, separated by commas, or attributes of GraphML.",
        "guessed",
        part="reading",
    )
    edges: str | None = _option(
        "The table of edges, for a table of the nodes of one graph.", False, part="reading"
    )
    root: str | None = _option(
        "The folder of the data sets of PyG.", "data", part="reading", kind=_FOLDER
    )
    split_file: str | None = _option(
        "Which items to train on, validate and test: .json of chemprop, .npz, or a line for each "
        "item; several splits are possible.",
        False,
        part="reading",
        protocols=("split",),
        instead="for the splits of the file use --protocol split",
    )
    metric: str | None = _option(
        "accuracy, roc_auc, average_precision, mae, rmse, std_mae or std_rmse.",
        "the task's",
        words=("accuracy", "roc_auc", "average_precision", "mae", "rmse", "std_mae", "std_rmse"),
    )
    split: str | None = _option(
        "given, random, or for molecules scaffold:hashed, scaffold:balanced:0,1,2, "
        "scaffold:deepchem; for protocol split.",
        "given, if there is one",
        protocols=("split",),
    )
    folds: int | None = _option(
        "Folds of the cross-validation.",
        "10, or as many as so many norms take",
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
        "Reported trials per fold; on one split, the seeds.", _OF_BUDGET, kind=integer(1)
    )
    epochs: int | None = _option("Passes over the training data.", _OF_BUDGET, kind=integer(1))
    learning_rate: float | Sequence[float] | None = _option(
        "Adam's learning rate in the first epoch: one, or several separated by commas.",
        _OF_BUDGET,
        kind=list_of(number("a number > 0", lambda value: value > 0), or_one=True),
        flags=("--lr",),
    )
    weight_decay: float | None = _option(
        "Adam's L2 penalty.", _OF_PRESET, kind=number("a number ≥ 0", lambda value: value >= 0)
    )
    batch_size: int | None = _option("Graphs in a minibatch.", _OF_PRESET, kind=integer(1))
    margin: float | None = _option(
        "Differences of scores below this are of no practical interest.",
        "one point, or 1% of the score",
        kind=number("a number > 0", lambda value: value > 0),
    )
    seed: int | None = _option("Seeds weights, batch order and dropout.", "0", kind=integer(0))
    device: str | None = _option("Where to train, e.g. cpu or cuda:0.", DEFAULT_DEVICE)
    engine: str = _option("Where trials run: local or dask.", value="local", part="running")
    scheduler: str | None = _option(
        "Address of the dask scheduler, e.g. tcp://localhost:8786.", False, part="running"
    )
    workers: int | None = _option(
        "Local trials at a time.", "one per core", kind=integer(1), part="running"
    )
    timeout: float | None = _option(
        "Seconds that a trial may take; one that takes longer has failed.",
        "no limit",
        kind=number("a number > 0, in seconds", lambda value: value > 0),
        part="running",
    )
    out: str | Path | None = _option(  # noqa: RUF009
        "The run's folder.",
        "runs/<dataset>-<model>",
        kind=_FOLDER,
        part="running",
        flags=("--out", "-o"),
    )
    resume: bool = _option(
        "Continue the run in the folder; its settings are the defaults.",
        value=False,
        kind=FLAG,
        part="running",
        flags=("--resume",),
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
        return replace(self, **stored.said() | self.said())

    @classmethod
    def of(cls, settings: Settings, reading: Mapping[str, Any]) -> Self:
        """Return options that resolve to the settings of a run, independent of any default.

        Args:
            settings: Of the run.
            reading: How its data were read.
        """
        architecture = settings.architecture
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
        }
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


def command_of(
    settings: Settings,
    reading: Mapping[str, Any],
    *,
    in_memory: bool = False,
    model_in_memory: bool = False,
) -> str:
    """Return the command line that repeats a comparison, or a call if it was given objects.

    Args:
        settings: Of the comparison.
        reading, in_memory: Of the data, see `graphnorms.lab.sources.Source`.
        model_in_memory: Whether the model was given as a function.
    """
    options = Options.of(settings, reading).said()
    lost = [name for name, kept in settings.own_norms.items() if kept.get("in_memory")]
    if in_memory or model_in_memory or lost:
        texts = {name: repr(value) for name, value in options.items()}
        norms = (name if name in lost else repr(name) for name in settings.norms)
        texts["norms"] = f"({', '.join(norms)})"
        if model_in_memory:
            texts["model"] = settings.model
        dataset = "dataset" if in_memory else repr(settings.dataset)
        arguments = ", ".join(f"{name}={text}" for name, text in texts.items())
        return f"graphnorms.compare({dataset}, {arguments})"
    words = ["graphnorms", "compare", settings.dataset]
    for name, value in options.items():
        flags = about(name).flags or (f"--{name.replace('_', '-')}",)
        if isinstance(value, bool):
            words += flags[:1] if value else flags[1:]
        else:
            words += [flags[0], _text(value)]
    return shlex.join(words)


def _text(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def name_of(choice: str | ModelFactory | OwnNorm) -> str:
    """Return what a model or norm is called."""
    return choice if isinstance(choice, str) else choice.name


def is_known(norm: str) -> bool:
    """Whether the catalogue has a norm of this name."""
    from graphnorms.layers.catalog import CATALOG

    return norm.partition(":")[0] in CATALOG
