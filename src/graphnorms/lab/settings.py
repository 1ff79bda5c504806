"""What a comparison does: its settings, completed from presets and budget, and checked.

Every norm meets the same splits, learning rates and budget, and within a split every norm starts
from the same seed, which gives the initial weights, the batch order and the dropout masks. Two
norms therefore differ, pair by pair, in the normalization and in nothing else; but for `granola`,
whose random features are drawn from the stream of the masks.

| protocol | learning rate chosen | reported |
|---|---|---|
| `"nested"` | in each fold, on validation data out of its training part | test folds, fresh seeds |
| `"split"`, several given | in each split, on its validation part | test parts, fresh seeds |
| `"split"`, one | for each reported seed anew, on the validation part | its test part |
| `"paper"` | by the reported score itself, as the epoch is: *optimistic* | validation folds |

What is repeated to learn how much chance there is has to contain the choice of the rate. Chosen
once for all seeds, two equal norms get different rates by noise, and every further seed makes the
difference between the rates more significant. So the choice is made anew wherever a value comes
from: for every fold, and on a split for every seed, from one trial per rate whose seed is never
the reported one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar, Final

from graphnorms.errors import is_number, unknown_name
from graphnorms.lab.budgets import BUDGETS

PROTOCOLS: Final = ("nested", "split", "paper")
BASELINE: Final = "none"
SCHEDULES = ("linear", "constant")
HOLDOUT: Final = 0.1
"""Share of validation data: of what is not the test fold, or of a random split."""


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """What defines a comparison, apart from the data and the code that runs it.

    Args:
        dataset: Name or path of the data set, as the user gave it.
        protocol: `"nested"`, `"split"` or `"paper"`; see the module.
        budget: `"quick"`, `"standard"` or `"full"`, where what follows came from.
        norms: Normalizations as text, each once.
        own_norms: Of those of the user's own, by name, `"source"`: the hash of the source, and
            `"in_memory"` where they came as objects that nobody finds by their name.
        model, preset: The name of the model, or `module:function` of one of the user's own, and
            the named preset that `architecture` and the training settings began as.
        architecture: Keyword arguments of the model, as `TrialConfig.model`.
        metric: What is compared, see `graphnorms.training.METRICS`.
        unit: Unit of the target, if known.
        split: On a split: `"given"` by the data, or `"random"`; else `"fold"`.
        folds: Folds of a cross-validation; 1 on a split.
        runs: Trials with the chosen rate, per fold, each from a fresh seed.
        repeats: Cross-validations, each of other folds; 1 on a split.
        holdout: Share of validation data: of what is not the test fold, or of a random split.
        split_seed: Seeds the shuffling before items are dealt to the parts, in the first repeat;
            each further one has the next seed.
        seed: Seeds weights, batch order and dropout.
        epochs: Passes over the training data.
        batch_size: Graphs in a minibatch.
        learning_rates: The grid of Adam's step sizes in the first epoch, ascending.
        schedule: `"linear"` (falls to 0 over the epochs) or `"constant"`.
        weight_decay: Adam's L2 penalty.
        margin: Differences of scores below this are of no practical interest; None: a rule.
        device, dtype: Where and in which precision the models are trained.
        group_twins: Isomorphic graphs, features included, are in one fold, or part of a split.

    Raises:
        ValueError: A value is not possible; the message says what was given and expected.
    """

    dataset: str
    protocol: str
    budget: str
    norms: tuple[str, ...]
    model: str
    preset: str
    architecture: dict[str, Any]
    metric: str
    unit: str
    split: str
    folds: int
    runs: int
    holdout: float
    split_seed: int
    seed: int
    epochs: int
    batch_size: int
    learning_rates: tuple[float, ...]
    schedule: str
    weight_decay: float
    margin: float | None
    device: str
    dtype: str = "float32"
    repeats: int = 1
    own_norms: dict[str, dict[str, Any]] = field(default_factory=dict)
    group_twins: bool = False

    required: ClassVar[frozenset[str]]
    """The settings that have no default."""

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("protocol", self.protocol, PROTOCOLS),
            ("budget", self.budget, tuple(BUDGETS)),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if given not in known:
                raise unknown_name(kind, given, known)
        for norm, about in self.own_norms.items():
            if norm not in self.norms or not isinstance(about.get("source"), str):
                raise ValueError(f"own norms has {norm!r}: {about!r:.100}")
        for norm in self.norms:
            if self.norms.count(norm) > 1:
                raise ValueError(f"norm {norm!r} is named more than once")
        if len(self.norms) < 2:
            raise ValueError("nothing to compare with 'none'; name a norm, e.g. graph")
        require_integer("folds", self.folds, at_least=1 if self.protocol == "split" else 2)
        for name in ("runs", "repeats", "epochs", "batch_size"):
            require_integer(name.replace("_", " "), getattr(self, name), at_least=1)
        require_integer("seed", self.seed, at_least=0)
        require_integer("split seed", self.split_seed, at_least=0)
        if not self.learning_rates:
            raise ValueError("no learning rate; name at least one, e.g. 0.01")
        for rate in self.learning_rates:
            require_number("learning rate", rate, "a number > 0", lambda value: value > 0)
            if self.learning_rates.count(rate) > 1:
                raise ValueError(f"learning rate {rate:g} is named more than once")
        require_number("weight decay", self.weight_decay, "a number ≥ 0", lambda value: value >= 0)
        require_number("holdout", self.holdout, "between 0 and 1/2", lambda value: 0 < value < 0.5)
        if self.margin is not None:
            require_number("margin", self.margin, "a number > 0", lambda value: value > 0)

    @property
    def selects(self) -> bool:
        """Whether there is a learning rate to choose, in trials of their own."""
        return self.protocol != "paper" and len(self.learning_rates) > 1

    @property
    def selection_trials(self) -> int:
        """Trials of one norm that choose its learning rates."""
        return self.rate_choices * len(self.learning_rates) if self.selects else 0

    @property
    def rate_choices(self) -> int:
        """How often a norm's learning rate is chosen: in every fold, or for every seed."""
        return self.runs if self.by_seed else self.all_folds

    @property
    def all_folds(self) -> int:
        """Folds of all repeats together, or splits."""
        return self.folds * self.repeats

    @property
    def by_seed(self) -> bool:
        """Whether a learning rate is chosen for every seed: on one split."""
        return self.protocol == "split" and self.folds == 1

    @property
    def reported_trials(self) -> int:
        """Trials of one norm that its score comes from."""
        rates = len(self.learning_rates) if self.protocol == "paper" else 1
        return self.all_folds * self.runs * rates

    @property
    def scored_trials(self) -> int:
        """Trials of one norm at the rate that it is judged by."""
        return self.reported_trials // (len(self.learning_rates) if self.protocol == "paper" else 1)

    @property
    def planned(self) -> int:
        """Trials of the whole comparison."""
        return len(self.norms) * (self.selection_trials + self.reported_trials)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data; `from_dict` reads it back."""
        lists = {name: list(getattr(self, name)) for name in ("norms", "learning_rates")}
        data = asdict(self) | lists
        for name in ("own_norms", "group_twins"):
            if not data[name]:  # as before there was the choice: such runs can be continued
                del data[name]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CompareSettings:
        """Read what `to_dict` wrote; entries that are no settings are left out.

        Raises:
            ValueError: A setting is missing or not of its type, or the run is of a version that
                chose one rate for all seeds of a split.
        """
        several = len(data.get("learning_rates", ())) > 1
        if several and data.get("protocol") == "split" and "selection_runs" in data:
            raise ValueError(
                "this run chose one learning rate for all seeds, which tells equal norms apart in "
                "one comparison out of four; run it again into another folder"
            )
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        for name, value in known.items():
            kind, what = _KINDS[cls.__dataclass_fields__[name].type]
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ValueError(f"{name.replace('_', ' ')} is {value!r:.100}, expected {what}")
        for name, kind in (("norms", str), ("learning_rates", int | float)):
            known[name] = tuple(known.get(name, ()))
            for each in known[name]:
                if not isinstance(each, kind):
                    raise ValueError(f"{name.replace('_', ' ')} has {each!r:.100} among them")
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"not the settings of a comparison: {error}") from None


CompareSettings.required = frozenset(
    each.name
    for each in fields(CompareSettings)
    if each.default is MISSING and each.default_factory is MISSING
)

_KINDS: Final[dict[Any, tuple[Any, str]]] = {
    "str": (str, "text"),
    "bool": (bool, "true or false"),
    "int": (int, "an integer"),
    "float": (int | float, "a number"),
    "float | None": (int | float | None, "a number, or null"),
    "dict[str, Any]": (dict, "names with values"),
    "dict[str, dict[str, Any]]": (dict, "names with values"),
    "tuple[str, ...]": (list | tuple, "a list of texts"),
    "tuple[float, ...]": (list | tuple, "a list of numbers"),
}
"""Of what is read from a file, by what the settings are annotated with."""


def require_integer(name: str, value: object, *, at_least: int) -> None:
    """Raise a `ValueError` unless `value` is an integer of that size."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be an integer ≥ {at_least}; got {value!r}")


def require_number(name: str, value: object, expected: str, right: Callable[[float], bool]) -> None:
    """Raise a `ValueError` unless `value` is a finite number that is right."""
    largest = sys.float_info.max
    finite = is_number(value) and -largest <= value <= largest  # type: ignore[operator]
    if not finite or not right(value):  # type: ignore[arg-type]
        raise ValueError(f"{name} must be {expected}; got {value!r:.100}")
