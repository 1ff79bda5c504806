"""The settings of a comparison: its options, completed from presets and budget, and checked.

Every norm meets the same splits, learning rates and budget, and within a split every norm starts
from the same seed, which gives the initial weights, the batch order and the dropout masks. Two
norms therefore differ, pair by pair, in the normalization and in nothing else. The exception is
`granola`: its random features are drawn from the stream of the masks.

| protocol | learning rate chosen | reported |
|---|---|---|
| `"nested"` | in each fold, on validation data out of its training part | test folds, fresh seeds |
| `"split"`, several given | in each split, on its validation part | test parts, fresh seeds |
| `"split"`, one | for each reported seed anew, on the validation part | its test part |
| `"paper"` | by the reported score itself, as the epoch is: *optimistic* | validation folds |

The repetitions that measure the effect of chance have to include the choice of the learning rate.
If it is chosen once for all seeds, two equal norms get different rates by chance, and every further
seed makes the difference between the rates more significant. So it is chosen for every fold, and on
one split for every seed, from one trial per rate that has another seed than the reported trial.
What a search chooses besides the rate is chosen in the same places, see `graphnorms.lab.search`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Final, Self

from graphnorms.lab.halving import lengths, sizes
from graphnorms.lab.option_kinds import BASELINE, MEASURED
from graphnorms.lab.option_table import about
from graphnorms.lab.search_space import RATE, Range, count_of, ranges_of
from graphnorms.lab.treatments import VARIABLE, Treatment, check_vary, treatments_of
from graphnorms.lab.values import FLAG, NAMES, TEXT, Kind, integer, list_of, number
from graphnorms.training.trial_config import LAB_TRAINS, is_trial

DEFAULT_FOLDS: Final = 10
HOLDOUT: Final = 0.1
"""Share of validation data: of what is not the test fold, or of a random split."""

_KINDS: Final[Mapping[str, Kind]] = {
    "dataset": TEXT,
    "norms": list_of(TEXT),
    "own_norms": NAMES,
    "model": TEXT,
    "architecture": NAMES,
    "architectures": NAMES,
    "unit": TEXT,
    "holdout": number("a number between 0 and 1/2", lambda value: 0 < value < 0.5),
    "split_seed": integer(0),
    "learning_rates": list_of(number("a number > 0", lambda value: value > 0)),
    "dtype": TEXT,
    "search": NAMES,
    "halving": FLAG,
}
"""Kinds of the settings that are no options; the others are checked as the option of their name."""

_LATER: Final = (
    *("own_norms", "vary", "architectures", "group_twins"),
    *("optimizer", "warmup", "clip", "force_weight", "patience", "num_neighbors"),
    *("search", "proposals", "halving", "reasons"),
)
"""Settings that came later, and are left out of `to_dict` where they are not used."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What defines a comparison, apart from the data and the code that runs it.

    Args:
        dataset: Name or path of the data set, as the user gave it.
        protocol: `"nested"`, `"split"` or `"paper"`; see the module.
        budget: `"quick"`, `"standard"` or `"full"`, where what follows came from.
        norms: Normalizations as text, each once.
        own_norms: The user's own norms by name, each with `"source"`, the hash of its source, and
            `"in_memory"` if it came as an object without an importable name.
        model, preset: The name of the model, or `module:function` of the user's own, and the preset
            that `architecture` and the training settings started from.
        architecture: Keyword arguments of the model, as `TrialConfig.model`. Where options are
            varied, these and the other settings are those of their first values.
        vary: The values of options by which treatments differ, by the name of the option.
        architectures: Where options are varied, the architecture for each combination of their
            values, by these values as text.
        unit: Unit of the target, if known.
        split: On a split: `"given"` by the data, or `"random"`; else `"fold"`.
        folds: Folds of a cross-validation; 1 on a split.
        runs: Trials with the chosen rate, per fold, each with a fresh seed.
        holdout: Share of validation data: of what is not the test fold, or of a random split.
        split_seed: Seeds the shuffling before items are dealt to the parts, in the first repeat;
            each further one has the next seed.
        learning_rates: The grid of learning rates after the warm-up, ascending; of a search the
            ends of what it proposes.
        search: What the other options are searched among, as text, by their names.
        proposals: What a search tries for each norm and fold; None without a search.
        halving: Whether rates are chosen by successive halving, see `graphnorms.lab.halving`.
        dtype: Precision of the training.

    The other settings are the options of the same name, see `graphnorms.compare`.

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
    vary: dict[str, list[Any]] = field(default_factory=dict)
    architectures: dict[str, dict[str, Any]] = field(default_factory=dict)
    group_twins: bool = False
    optimizer: str = "adam"
    warmup: int = 0
    clip: float | None = None
    force_weight: float | None = None
    patience: int | None = None
    num_neighbors: Sequence[int] | None = None
    search: dict[str, str] = field(default_factory=dict)
    proposals: int | None = None
    halving: bool = False
    reasons: str = MEASURED

    def __post_init__(self) -> None:
        for each in fields(self):
            value, kind = getattr(self, each.name), _KINDS.get(each.name)
            if value is not None or "None" not in str(each.type):
                (kind or about(each.name).kind).require(each.name, value)
        for norm, kept in self.own_norms.items():
            if norm not in self.norms or not isinstance(kept.get("source"), str):
                raise ValueError(f"own_norms has {norm!r}: {kept!r:.100}, expected a norm's source")
        _require_each_once("norm", self.norms)
        _require_each_once("learning rate", self.learning_rates)
        if self.vary:
            own = self.architecture.get("arguments", ())
            check_vary(self.vary, {name: about(name) for name in VARIABLE}, (), own)
            if {each.values for each in self.treatments.values()} != self.architectures.keys():
                raise ValueError("architectures are not those of the values that are varied")
        if len(self.treatments) < 2:
            raise ValueError("nothing to compare with 'none'; name a norm, e.g. graph")
        if not self.learning_rates and not self.own_training:
            raise ValueError("no learning rate; name at least one, e.g. 0.01")
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup is {self.warmup}, expected fewer than the {self.epochs} epochs"
            )
        if (self.proposals is None) == bool(self.search):
            raise ValueError(f"proposals is {self.proposals}, expected a number with a search only")
        if self.halving and self.search:
            raise ValueError("halving chooses among learning rates alone, and search has options")
        _ = self.space  # read here, for its errors
        if self.protocol != "split":
            integer(2).require("folds", self.folds)

    @cached_property
    def treatments(self) -> dict[str, Treatment]:
        """What is compared, by name: the norms, or each with the values of what is varied."""
        return treatments_of(self.norms, self.vary)

    @cached_property
    def space(self) -> dict[str, Range]:
        """What is searched: the learning rate, unless there is one alone, and the other options."""
        if not self.search:
            return {}
        rates = self.learning_rates
        ends = f"{rates[0]!r}:{rates[-1]!r}" if len(rates) > 1 else ""
        return ({RATE: Range.of(RATE, ends)} if ends else {}) | ranges_of(self.search)

    @property
    def noun(self) -> str:
        """What is compared, in words: `norm` or `treatment`."""
        return "treatment" if self.vary else "norm"

    @property
    def baseline(self) -> str:
        """The treatment that sets the training target: the first without a norm, or of all."""
        return next(
            (name for name, each in self.treatments.items() if each.norm == BASELINE),
            next(iter(self.treatments)),
        )

    @property
    def shared_architecture(self) -> dict[str, Any]:
        """What the architectures of all treatments agree on."""
        return {
            name: value
            for name, value in self.architecture.items()
            if all(name in each and each[name] == value for each in self._every_architecture())
        }

    def _every_architecture(self) -> list[dict[str, Any]]:
        return list(self.architectures.values()) or [self.architecture]

    def of_treatment(self, name: str, setting: str) -> Any:
        """Return the value that a setting has for a treatment."""
        treatment = self.treatments[name]
        if setting == "architecture" and self.vary:
            return self.architectures[treatment.values]
        return treatment.varied.get(setting, getattr(self, setting))

    def usual_values(self, name: str) -> dict[str, float | None]:
        """Return what a treatment has of the searched options where there is no search."""
        architecture = self.of_treatment(name, "architecture")
        rates = self.learning_rates
        usual: dict[str, float | None] = {RATE: math.sqrt(rates[0] * rates[-1])} if rates else {}
        for option in self.search:
            of_model = option in ("layers", "hidden", "dropout")
            usual[option] = (
                architecture.get(option) if of_model else self.of_treatment(name, option)
            )
        return usual

    @property
    def model_options(self) -> dict[str, Any]:
        """The options of model and training that these settings follow from, by name.

        None where they follow from no value, or where the model does not tell.
        """
        shared = self.shared_architecture
        names = ("layers", "hidden", "dropout", "norm_place", "edge_norm", "qk_norm", "heads")
        # The user's own model does not tell where its residual connections are.
        residual = {True: shared.get("residual_place"), False: "none", None: None}
        found: dict[str, Any] = {name: shared.get(name) for name in names}
        found["residual"] = residual[shared.get("residual")]
        found["learning_rate"] = self.learning_rates
        for name in ("optimizer", "warmup", "reasons"):
            if getattr(self, name) == self.__dataclass_fields__[name].default:
                found[name] = None
        dropouts = [(each.get("dropout"), each) for each in self._every_architecture()]
        if any(each.get("layer_dropout", dropout) != dropout for dropout, each in dropouts):
            found["dropout"] = None  # the option sets both
        if self.own_training:
            found |= dict.fromkeys(set(LAB_TRAINS) - {*self.takes})
            by_trial = self.architecture["by"] == "trial"
            found["trial"], found["model"] = (self.model, None) if by_trial else (None, self.model)
        return found

    @property
    def own_training(self) -> bool:
        """Whether user code trains."""
        return is_trial(self.architecture)

    @property
    def takes(self) -> Sequence[str]:
        """The options that user code which trains takes."""
        found: Sequence[str] = self.architecture.get("takes", ())
        return found

    @property
    def selects(self) -> bool:
        """Whether a learning rate, or more, is chosen, by trials for that purpose."""
        return self.protocol != "paper" and (len(self.learning_rates) > 1 or bool(self.search))

    @property
    def selection_trials(self) -> int:
        """Trials of one norm that choose its learning rates, or what is searched."""
        return self.rate_choices * self.tries if self.selects else 0

    @property
    def tries(self) -> int:
        """Trials of one norm for one choice."""
        if self.search:
            return count_of(self.space, self.proposals or 0)
        if self.halving:
            return sum(size for size, _ in self.rounds)
        return len(self.learning_rates)

    @cached_property
    def rounds(self) -> list[tuple[int, int]]:
        """The rounds of the halving: how many rates each tries, for how many epochs."""
        if not self.halving:
            return []
        rates = len(self.learning_rates)
        return list(zip(sizes(rates), lengths(self.epochs, rates, self.warmup + 1), strict=True))

    @property
    def selection_epochs(self) -> float:
        """Epochs of a trial that chooses, on average."""
        if not self.rounds:
            return self.epochs
        return sum(size * epochs for size, epochs in self.rounds) / self.tries

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
        return self.scored_trials * (len(self.learning_rates) if self.protocol == "paper" else 1)

    @property
    def scored_trials(self) -> int:
        """Trials of one norm at the rate that it is judged by."""
        return self.all_folds * self.runs

    @property
    def planned(self) -> int:
        """Trials of the whole comparison."""
        return len(self.treatments) * (self.selection_trials + self.reported_trials)

    @property
    def epochs_of_norm(self) -> int:
        """Epochs of all trials of one norm, or treatment."""
        chosen = self.selection_trials * self.selection_epochs
        return round(chosen) + self.reported_trials * self.epochs

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data; `from_dict` reads it back."""
        lists = {name: list(getattr(self, name)) for name in ("norms", "learning_rates")}
        data = asdict(self) | lists
        for each in fields(self):
            name = each.name
            # As before there was the choice: such runs can be continued.
            if name in _LATER and (not data[name] or data[name] == each.default):
                del data[name]
        return data

    def shown(self) -> dict[str, Any]:
        """Return what a reader is to see: `to_dict` without what is searched, or not taken.

        That is what user code that trains does not take, and values of which a search has others.
        """
        hidden = {*self.search}
        if self.own_training:
            option_of = {name: name for name in ("epochs", "batch_size", "weight_decay")}
            option_of |= {"learning_rates": "learning_rate", "preset": "", "schedule": ""}
            hidden |= {name for name, option in option_of.items() if option not in self.takes}
        data = {name: value for name, value in self.to_dict().items() if name not in hidden}
        architecture = self.architecture.items()
        data["architecture"] = {n: value for n, value in architecture if n not in self.search}
        return data

    @classmethod
    def required(cls) -> set[str]:
        """Return the names of the settings without a default."""
        return {
            each.name
            for each in fields(cls)
            if each.default is MISSING and each.default_factory is MISSING
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; entries that are no settings are left out.

        Raises:
            ValueError: A setting is missing or not of its type, or the run is of a version that
                chose one rate for all seeds of a split.
        """
        rates = data.get("learning_rates")
        of_split = data.get("protocol") == "split" and "selection_runs" in data
        if of_split and isinstance(rates, list | tuple) and len(rates) > 1:
            raise ValueError(
                "this run chose one learning rate for all seeds, which tells equal norms apart in "
                "one comparison out of four; run it again into another folder"
            )
        if missing := cls.required() - data.keys():
            raise ValueError(f"not the settings of a comparison: {min(missing)} is missing")
        known = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        lists = [name for name in ("norms", "learning_rates") if isinstance(known[name], list)]
        return cls(**known | {name: tuple(known[name]) for name in lists})


def _require_each_once(what: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value!r} is named more than once; name it once")
