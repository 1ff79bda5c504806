"""How an option is described, and the words and kinds of values that options share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from graphnorms.lab.values import TEXT, Kind, list_of

Part: TypeAlias = Literal["comparison", "reading", "running"]
Group: TypeAlias = Literal["comparison", "model", "data", "training", "machine", "output"]

PROTOCOLS: Final = ("nested", "split", "paper")
MEASURED: Final = "measured"
TESTED: Final = "tested"
REASONS: Final = ("none", MEASURED, TESTED)
FOLDED: Final = ("nested", "paper")
"""The protocols with a cross-validation."""

BASELINE: Final = "none"
DEFAULT_NORMS: Final = ("none", "batch", "layer", "instance", "graph")
DEFAULT_NORM: Final = "batch"
"""The only norm by default where something else is varied."""

DEFAULT_PRESET: Final = "default"
DEFAULT_DEVICE: Final = "cpu"
DEFAULT_ENGINE: Final = "local"

NORMS: Final = Kind("a text, or a list of texts and of what makes a norm", str | Sequence)
MODEL: Final = Kind(
    "a name, or a function that makes a model",
    fits=lambda value: isinstance(value, str) or callable(value) or hasattr(value, "function"),
)
TRIAL: Final = Kind("module:function, or a function that trains", fits=MODEL.fits)
FOLDER: Final = Kind("a folder", str | Path)
SEARCH: Final = Kind("options, such as dropout,layers=2|4|8", str | Sequence | Mapping)
VARY: Final = Kind("options with lists of values, such as {'layers': [2, 4, 8]}", Mapping)
NEIGHBOURS: Final = list_of(
    Kind("an integer ≥ 1, or -1 for all", int, lambda value: value >= 1 or value == -1), or_one=True
)
METRIC_NAMES: Final = (
    *("accuracy", "balanced_accuracy", "macro_f1", "mcc", "roc_auc", "average_precision"),
    *("mae", "rmse", "std_mae", "std_rmse", "r2"),
    *("energy_mae", "force_mae", "energy_rmse", "force_rmse"),
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


def option(help: str, default: str | bool = True, *, value: Any = None, **about: Any) -> Any:
    """Return the field of an option.

    Args:
        help, default, about: See `About`.
        value: The value where it is not given.
    """
    return field(default=value, metadata={"about": About(help=help, default=default, **about)})


model_option: Final = partial(option, group="model")
training_option: Final = partial(option, group="training")
data_option: Final = partial(option, group="data", part="reading")
machine_option: Final = partial(option, group="machine", part="running")
output_option: Final = partial(option, group="output", part="running")

OF_PRESET: Final = "the preset's"
OF_BUDGET: Final = "the budget's"
OF_DATA: Final = "what the data suggest"
