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
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, Self

from graphnorms.errors import is_number, unknown_name
from graphnorms.lab.budgets import QUICK, Budget, budget_named
from graphnorms.lab.options import (
    DEFAULT_DEVICE,
    DEFAULT_PRESET,
    DEFAULT_PROTOCOL,
    Options,
    about,
    name_of,
)
from graphnorms.lab.values import NAMES, TEXT, Kind, integer, list_of, number, one_of

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.layers.own import OwnNorm
    from graphnorms.models import ModelFactory

DEFAULT_FOLDS: Final = 10
SCHEDULES: Final = ("linear", "constant")
HOLDOUT: Final = 0.1
"""Share of validation data: of what is not the test fold, or of a random split."""

_KINDS: Final[Mapping[str, Kind]] = {
    "dataset": TEXT,
    "norms": list_of(TEXT),
    "own_norms": NAMES,
    "model": TEXT,
    "architecture": NAMES,
    "unit": TEXT,
    "holdout": number("a number between 0 and 1/2", lambda value: 0 < value < 0.5),
    "split_seed": integer(0),
    "learning_rates": list_of(number("a number > 0", lambda value: value > 0)),
    "schedule": one_of("schedule", SCHEDULES),
    "dtype": TEXT,
}
"""Kinds of the settings that are no options; the others are checked as the option of their name."""


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
        architecture: Keyword arguments of the model, as `TrialConfig.model`.
        unit: Unit of the target, if known.
        split: On a split: `"given"` by the data, or `"random"`; else `"fold"`.
        folds: Folds of a cross-validation; 1 on a split.
        runs: Trials with the chosen rate, per fold, each with a fresh seed.
        holdout: Share of validation data: of what is not the test fold, or of a random split.
        split_seed: Seeds the shuffling before items are dealt to the parts, in the first repeat;
            each further one has the next seed.
        learning_rates: The grid of Adam's step sizes in the first epoch, ascending.
        schedule: `"linear"` (falls to 0 over the epochs) or `"constant"`.
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
    group_twins: bool = False

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
        if len(self.norms) < 2:
            raise ValueError("nothing to compare with 'none'; name a norm, e.g. graph")
        if not self.learning_rates:
            raise ValueError("no learning rate; name at least one, e.g. 0.01")
        if self.protocol != "split":
            integer(2).require("folds", self.folds)

    @property
    def selects(self) -> bool:
        """Whether a learning rate is chosen, by trials for that purpose."""
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
        several = len(data.get("learning_rates", ())) > 1
        if several and data.get("protocol") == "split" and "selection_runs" in data:
            raise ValueError(
                "this run chose one learning rate for all seeds, which tells equal norms apart in "
                "one comparison out of four; run it again into another folder"
            )
        if missing := cls.required() - data.keys():
            raise ValueError(f"not the settings of a comparison: {min(missing)} is missing")
        known = {each.name: data[each.name] for each in fields(cls) if each.name in data}
        for name in ("norms", "learning_rates"):
            if isinstance(known[name], list):
                known[name] = tuple(known[name])
        return cls(**known)

    @classmethod
    def resolve(cls, options: Options, graphs: GraphSet, dataset: str) -> Self:
        """Complete options with what data, preset and budget say, and check them.

        Args:
            options: The options.
            graphs: The data.
            dataset: What to call the data.

        Raises:
            ValueError: A value is not possible, a name is not known, or the device is not there.
        """
        from graphnorms.training import DEFAULT_METRICS, metric_for, training_defaults

        options.check()
        options = options.looked_up()
        norms: Any = options.norms
        protocol = options.protocol or DEFAULT_PROTOCOL
        budget, preset = budget_named(options.budget or QUICK), options.preset or DEFAULT_PRESET
        device = options.device or DEFAULT_DEVICE
        require_device(device)
        model: Any = options.model or default_model(graphs, preset)
        defaults = training_defaults(preset)
        split, splits = _split_of(options, protocol, graphs)
        metric = options.metric or DEFAULT_METRICS[graphs.task.kind]
        settings = cls(
            dataset=dataset,
            protocol=protocol,
            budget=options.budget or QUICK,
            norms=tuple(map(name_of, norms)),
            own_norms={norm.name: _kept(norm) for norm in norms if not isinstance(norm, str)},
            model=name_of(model),
            preset=preset,
            architecture=_architecture(graphs, model, preset, options),
            metric=metric_for(metric, graphs.task).name,
            unit=graphs.task.unit,
            split=split,
            folds=splits or _folds(protocol, len(norms)),
            runs=_runs(budget, protocol, splits),
            holdout=HOLDOUT,
            split_seed=defaults.split_seed,
            seed=0,
            epochs=max(1, round(defaults.epochs * budget.epochs)),
            batch_size=defaults.batch_size,
            learning_rates=_rates(options.learning_rate, budget.learning_rates),
            schedule=defaults.schedule,
            weight_decay=defaults.weight_decay,
            margin=None,
            device=device,
        )
        given: dict[str, Any] = {
            name: float(value) if name in ("weight_decay", "margin") else value
            for name in _AS_GIVEN
            if (value := getattr(options, name)) is not None
        }
        return replace(settings, **given)


_AS_GIVEN: Final = (
    "folds",
    "repeats",
    "group_twins",
    "runs",
    "seed",
    "epochs",
    "batch_size",
    "weight_decay",
    "margin",
)
"""Options that are settings as they are."""


def _require_each_once(what: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{what} {value!r} is named more than once; name it once")


def default_model(graphs: GraphSet, preset: str = DEFAULT_PRESET) -> str:
    """Return the model when none is named: GCN for nodes, GINE for edges with features, GIN.

    A preset without a GINE has a GIN for those.
    """
    from graphnorms.models import preset_models

    if graphs.task.level == "node":
        return "gcn"
    return "gine" if graphs.num_edge_features and "gine" in preset_models(preset) else "gin"


def _split_of(options: Options, protocol: str, graphs: GraphSet) -> tuple[str, int]:
    """Return how the data are divided, and into how many splits; 0 for folds.

    Raises:
        ValueError: They cannot be divided so.
    """
    if protocol == "split" and options.repeats is not None and graphs.num_splits > 1:
        raise ValueError(
            f"repeats is {options.repeats}, but the {graphs.num_splits} splits of {graphs.name} "
            "are given; leave it out, or cut folds with --protocol nested"
        )
    options.check_protocol(protocol)
    split = "fold"
    if protocol == "split":
        split = "given" if options.by_scaffold else options.split or ""
        split = split or ("random" if graphs.split is None else "given")
        if split not in ("given", "random"):
            raise unknown_name("split", split, ("given", "random"))
        if split == "given" and graphs.split is None:
            raise ValueError(f"{graphs.name} comes without a split; ask for --split random")
    if options.group_twins:
        _require_groupable(graphs, split)
    return split, 0 if split == "fold" else graphs.num_splits if split == "given" else 1


def _require_groupable(graphs: GraphSet, split: str) -> None:
    """Refuse to keep twins together where they cannot be."""
    if graphs.task.level == "node":
        raise ValueError(
            "group_twins keeps isomorphic graphs in one fold, but the task is about nodes; "
            "leave it out"
        )
    if split == "given":
        raise ValueError(
            f"group_twins changes folds, but the split of {graphs.name} is given; ask for "
            "--split random or --protocol nested"
        )


def _folds(protocol: str, norms: int) -> int:
    """Return ten folds, or as many as it takes to judge so many norms."""
    from graphnorms.lab.design import Design

    return max(DEFAULT_FOLDS, Design(protocol=protocol).least(math.comb(norms, 2)))


def _runs(budget: Budget, protocol: str, splits: int) -> int:
    """Return how many trials are reported per fold, or on one split per norm."""
    if splits == 1:
        return budget.seeds
    return 1 if protocol == "paper" else budget.runs


def _kept(norm: OwnNorm) -> dict[str, Any]:
    """Return the entry of `own_norms` for a norm."""
    return {"source": norm.source, **({"in_memory": True} if norm.in_memory else {})}


def _architecture(
    graphs: GraphSet, model: str | ModelFactory, preset: str, options: Options
) -> dict[str, Any]:
    from graphnorms.models import OwnModelConfig
    from graphnorms.models import preset as preset_of

    sizes = {n: v for n in ("layers", "hidden") if (v := getattr(options, n)) is not None}
    if not isinstance(model, str):
        for name in ("norm_place", "residual"):
            if getattr(options, name) is not None:
                raise ValueError(
                    f"{name} is {getattr(options, name)}, but {model.name} places its norms "
                    "itself; leave it out"
                )
        own = OwnModelConfig(name=model.name, source=model.source, head=graphs.task.level, **sizes)
        own.asked_of(model.function)
        return own.to_dict()
    has_labels = graphs.features not in ("one-hot degree", "constant")
    changes: dict[str, Any] = {"head": graphs.task.level, **sizes}
    if options.norm_place is not None:
        changes["norm_place"] = options.norm_place
    if options.residual is not None:
        changes["residual"] = options.residual != "none"
        if options.residual != "none":
            changes["residual_place"] = options.residual
    return replace(preset_of(model, preset, node_labels=has_labels), **changes).to_dict()


def _rates(given: float | Sequence[float] | None, grid: tuple[float, ...]) -> tuple[float, ...]:
    """Return the learning rates, ascending; as floats, for 1 and 1.0 to be one setting."""
    if given is None:
        return grid
    return tuple(sorted(map(float, [given] if is_number(given) else given)))  # type: ignore[arg-type]


def require_device(device: str) -> None:
    """Raise a `ValueError` unless models can be trained on the device named."""
    import torch

    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError) as error:
        # The first of the many lines of torch's message has the reason.
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {device!r} cannot be used: {reason}") from None
