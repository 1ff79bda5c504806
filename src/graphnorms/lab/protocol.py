"""What a comparison does: its settings, completed from presets and budget, and checked.

Every norm meets the same splits, learning rates and budget, and within a split every norm starts
from the same seed, which gives the initial weights, the batch order and the dropout masks. Two
norms therefore differ, pair by pair, in the normalization and in nothing else.

| protocol | learning rate chosen | reported |
|---|---|---|
| `"nested"` | in each fold, on validation data out of its training part | test folds, fresh seeds |
| `"split"` | on the validation part of one split | its test part, fresh seeds |
| `"paper"` | by the reported score itself, as the epoch is: *optimistic* | validation folds |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import unknown_name
from graphnorms.lab.budgets import BUDGETS, QUICK, budget_named

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.models import ModelFactory

PROTOCOLS: Final = ("nested", "split", "paper")
DEFAULT_NORMS = ("none", "batch", "layer", "instance", "graph")
BASELINE: Final = "none"
SCHEDULES = ("linear", "constant")
DEFAULT_PROTOCOL: Final = "nested"
DEFAULT_PRESET: Final = "default"
DEFAULT_DEVICE: Final = "cpu"


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """What defines a comparison, apart from the data and the code that runs it.

    Args:
        dataset: Name or path of the data set, as the user gave it.
        protocol: `"nested"`, `"split"` or `"paper"`; see the module.
        budget: `"quick"`, `"standard"` or `"full"`, where what follows came from.
        norms: Normalizations as text, each once.
        model, preset: The name of the model, or `module:function` of one of the user's own, and
            the named preset that `architecture` and the training settings began as.
        architecture: Keyword arguments of the model, as `TrialConfig.model`.
        metric: What is compared, see `graphnorms.training.METRICS`.
        unit: Unit of the target, if known.
        split: On a split: `"given"` by the data, or `"random"`; else `"fold"`.
        folds: Folds of a cross-validation; 1 on a split.
        runs: Trials with the chosen rate, per fold, each from a fresh seed.
        selection_runs: Trials per fold and learning rate.
        holdout: Share of validation data: of what is not the test fold, or of a random split.
        split_seed: Seeds the shuffling before items are dealt to the parts.
        seed: Seeds weights, batch order and dropout.
        epochs: Passes over the training data.
        batch_size: Graphs in a minibatch.
        learning_rates: The grid of Adam's step sizes in the first epoch, ascending.
        schedule: `"linear"` (falls to 0 over the epochs) or `"constant"`.
        weight_decay: Adam's L2 penalty.
        margin: Differences of scores below this are of no practical interest; None: a rule.
        device, dtype: Where and in which precision the models are trained.

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
    selection_runs: int
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

    def __post_init__(self) -> None:
        for kind, given, known in (
            ("protocol", self.protocol, PROTOCOLS),
            ("budget", self.budget, tuple(BUDGETS)),
            ("schedule", self.schedule, SCHEDULES),
        ):
            if given not in known:
                raise unknown_name(kind, given, known)
        for norm in self.norms:
            if self.norms.count(norm) > 1:
                raise ValueError(f"norm {norm!r} is named more than once")
        if len(self.norms) < 2:
            raise ValueError("nothing to compare with 'none'; name a norm, e.g. graph")
        require_integer("folds", self.folds, at_least=1 if self.protocol == "split" else 2)
        for name in ("runs", "selection_runs", "epochs", "batch_size"):
            require_integer(name.replace("_", " "), getattr(self, name), at_least=1)
        require_integer("seed", self.seed, at_least=0)
        require_integer("split seed", self.split_seed, at_least=0)
        if not self.learning_rates:
            raise ValueError("no learning rate; name at least one, e.g. 0.01")
        for rate in self.learning_rates:
            _require("learning rate", rate, "a number > 0", lambda value: value > 0)
            if self.learning_rates.count(rate) > 1:
                raise ValueError(f"learning rate {rate:g} is named more than once")
        _require("weight decay", self.weight_decay, "a number ≥ 0", lambda value: value >= 0)
        _require("holdout", self.holdout, "between 0 and 1/2", lambda value: 0 < value < 0.5)
        if self.margin is not None:
            _require("margin", self.margin, "a number > 0", lambda value: value > 0)

    @property
    def selects(self) -> bool:
        """Whether there is a learning rate to choose, in trials of their own."""
        return self.protocol != "paper" and len(self.learning_rates) > 1

    @property
    def selection_trials(self) -> int:
        """Trials of one norm that choose its learning rate."""
        return self.folds * self.selection_runs * len(self.learning_rates) if self.selects else 0

    @property
    def reported_trials(self) -> int:
        """Trials of one norm that its score comes from."""
        rates = len(self.learning_rates) if self.protocol == "paper" else 1
        return self.folds * self.runs * rates

    @property
    def planned(self) -> int:
        """Trials of the whole comparison."""
        return len(self.norms) * (self.selection_trials + self.reported_trials)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data; `from_dict` reads it back."""
        lists = {name: list(getattr(self, name)) for name in ("norms", "learning_rates")}
        return asdict(self) | lists

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CompareSettings:
        """Read what `to_dict` wrote; entries that are no settings are left out.

        Raises:
            ValueError: A setting is missing.
        """
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        for name in ("norms", "learning_rates"):
            known[name] = tuple(known.get(name, ()))
        try:
            return cls(**known)
        except TypeError as error:
            raise ValueError(f"not the settings of a comparison: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a user can say of a comparison; None leaves it to the data, preset and budget.

    The names are those of the options of `graphnorms compare`; see `CompareSettings` for most.

    Args:
        model: A name, `module:function`, or a function that makes a model of the user's own.
        learning_rate: One rate, or the grid.
        split: `"given"` or `"random"`, for the protocol `"split"`.
        norm_place: Each norm `"before-activation"` or `"after-activation"`.
        residual: `"none"`, or where every convolution but the first adds its input:
            `"after-norm"` or `"before-norm"`.
        layers, hidden: Number of convolutions, and their channels.
    """

    norms: Sequence[str] | str | None = None
    protocol: str | None = None
    budget: str | None = None
    model: str | Callable[..., Any] | ModelFactory | None = None
    preset: str | None = None
    norm_place: str | None = None
    residual: str | None = None
    layers: int | None = None
    hidden: int | None = None
    metric: str | None = None
    split: str | None = None
    folds: int | None = None
    runs: int | None = None
    epochs: int | None = None
    learning_rate: float | Sequence[float] | None = None
    weight_decay: float | None = None
    batch_size: int | None = None
    margin: float | None = None
    seed: int | None = None
    device: str | None = None


def said(choices: Choices) -> dict[str, Any]:
    """Return the choices that were made, by name."""
    return {name: value for name, value in vars(choices).items() if value is not None}


def resolve(graphs: GraphSet, dataset: str, choices: Choices) -> CompareSettings:
    """Complete what was asked for with what data, preset and budget say, and check it.

    Args:
        graphs: The data.
        dataset: What to call it.
        choices: What was asked for.

    Raises:
        ValueError: A value is not possible, a name is not known, or the device is not there.
    """
    from graphnorms.training import DEFAULT_METRICS, metric_named, training_defaults

    protocol, budget = choices.protocol or DEFAULT_PROTOCOL, budget_named(choices.budget or QUICK)
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    require_device(choices.device or DEFAULT_DEVICE)
    preset = choices.preset or DEFAULT_PRESET
    model = chosen_model(choices) or default_model(graphs, preset)
    defaults = training_defaults(preset)
    epochs = max(1, round(defaults.epochs * budget.epochs))
    metric = choices.metric or DEFAULT_METRICS[graphs.task.kind]
    on_a_split = protocol == "split"
    if choices.split is not None and not on_a_split:
        raise ValueError(
            f"split {choices.split!r} goes with protocol split; the protocol is {protocol}"
        )
    if on_a_split and choices.folds is not None:
        raise ValueError(f"folds is {choices.folds}, but protocol split has none; leave it out")
    runs = budget.seeds if on_a_split else budget.runs if protocol == "nested" else 1
    return CompareSettings(
        dataset=dataset,
        protocol=protocol,
        budget=choices.budget or QUICK,
        norms=_norms(DEFAULT_NORMS if choices.norms is None else choices.norms),
        model=name_of(model),
        preset=preset,
        architecture=_architecture(graphs, model, preset, choices),
        metric=metric_named(metric, graphs.task.kind).name,
        unit=graphs.task.unit,
        split=_split_kind(graphs, choices) if on_a_split else "fold",
        folds=1 if on_a_split else 10 if choices.folds is None else choices.folds,
        runs=runs if choices.runs is None else choices.runs,
        selection_runs=budget.selection_runs if on_a_split else 1,
        holdout=0.1,
        split_seed=defaults.split_seed,
        seed=choices.seed or 0,
        epochs=epochs if choices.epochs is None else choices.epochs,
        batch_size=defaults.batch_size if choices.batch_size is None else choices.batch_size,
        learning_rates=_rates(choices.learning_rate, budget.learning_rates),
        schedule=defaults.schedule,
        weight_decay=_as_float(
            defaults.weight_decay if choices.weight_decay is None else choices.weight_decay
        ),
        margin=_as_float(choices.margin),
        device=choices.device or DEFAULT_DEVICE,
    )


def default_model(graphs: GraphSet, preset: str = DEFAULT_PRESET) -> str:
    """Return the model when none is named: GCN for nodes, GINE for edges with features, GIN.

    A preset without a GINE has a GIN for those.
    """
    from graphnorms.models import preset_models

    if graphs.task.level == "node":
        return "gcn"
    return "gine" if graphs.num_edge_features and "gine" in preset_models(preset) else "gin"


def chosen_model(choices: Choices) -> str | ModelFactory | None:
    """Return the model that was chosen, if one was; one of the user's own is looked for.

    Raises:
        ValueError: It is not found.
    """
    from graphnorms.models import MODELS, ModelFactory
    from graphnorms.user_code import is_spec

    model = choices.model
    if not isinstance(model, str):
        return ModelFactory.of(model) if callable(model) else model
    if model in MODELS:
        return model
    file, colon, function = model.partition(":")
    if colon and file.endswith(".py"):
        module = file.removesuffix(".py").replace("/", ".")
        raise ValueError(f"model {model!r} names a file, expected its module: {module}:{function}")
    if not is_spec(model):
        raise ValueError(
            f"{unknown_name('model', model, MODELS)}; one of your own is module:function"
        )
    return ModelFactory.of(model)


def name_of(model: str | ModelFactory) -> str:
    """Return what a model is called."""
    return model if isinstance(model, str) else model.name


def _norms(given: Sequence[str] | str) -> tuple[str, ...]:
    """The norms by their names as the catalogue spells them, the baseline always among them."""
    from graphnorms.layers.factory import lookup, split_specs

    texts = split_specs(given) if isinstance(given, str) else given
    names = tuple(lookup(text.strip()).name for text in texts if text.strip())
    return names if BASELINE in names else (BASELINE, *names)


def _architecture(
    graphs: GraphSet, model: str | ModelFactory, preset: str, choices: Choices
) -> dict[str, Any]:
    from graphnorms.models import preset as preset_of

    if not isinstance(model, str):
        return _own_architecture(graphs, model, choices)
    has_labels = graphs.features not in ("one-hot degree", "constant")
    config = preset_of(model, preset, node_labels=has_labels)
    changes: dict[str, Any] = {"head": graphs.task.level}
    if choices.norm_place is not None:
        changes["norm_place"] = choices.norm_place
    if choices.residual is not None:
        changes["residual"] = choices.residual != "none"
        if choices.residual != "none":
            changes["residual_place"] = choices.residual
    for name in ("layers", "hidden"):
        if getattr(choices, name) is not None:
            require_integer(name, getattr(choices, name), at_least=1)
            changes[name] = getattr(choices, name)
    return replace(config, **changes).to_dict()


def _own_architecture(graphs: GraphSet, model: ModelFactory, choices: Choices) -> dict[str, Any]:
    from graphnorms.models import OwnModelConfig

    for name in ("norm_place", "residual"):
        if getattr(choices, name) is not None:
            raise ValueError(
                f"{name.replace('_', ' ')} {getattr(choices, name)} is of the lab's own models; "
                f"{model.name} places its norms itself"
            )
    for name in ("layers", "hidden"):
        if getattr(choices, name) is not None:
            require_integer(name, getattr(choices, name), at_least=1)
    config = OwnModelConfig(
        name=model.name, source=model.source, layers=choices.layers, hidden=choices.hidden,
        head=graphs.task.level,
    )  # fmt: skip
    config.asked_of(model.function)
    return config.to_dict()


def _split_kind(graphs: GraphSet, choices: Choices) -> str:
    if choices.split is None:
        return "random" if graphs.split is None else "given"
    if choices.split not in ("given", "random"):
        raise unknown_name("split", choices.split, ("given", "random"))
    if choices.split == "given" and graphs.split is None:
        raise ValueError(f"{graphs.name} comes without a split; ask for --split random")
    return choices.split


def _rates(given: float | Sequence[float] | None, grid: tuple[float, ...]) -> tuple[float, ...]:
    if given is None:
        return grid
    several: Any = given if isinstance(given, list | tuple) else [given]
    rates = [_as_float(rate) for rate in several]
    # What is no number is left for the check of the settings to find.
    return tuple(sorted(rates) if all(isinstance(rate, float) for rate in rates) else rates)


def _as_float(value: Any) -> Any:
    """A number as a plain float, for 1 and 1.0 to be one setting; anything else as it is."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else value


def require_integer(name: str, value: object, *, at_least: int) -> None:
    """Raise a `ValueError` unless `value` is an integer of that size."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be an integer ≥ {at_least}; got {value!r}")


def require_device(device: str) -> None:
    """Raise a `ValueError` unless models can be trained on the device named."""
    import torch

    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError) as error:
        # torch's own messages run over many lines; the first says what is wrong
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {device!r} cannot be used: {reason}") from None


def _require(name: str, value: object, expected: str, right: Callable[[float], bool]) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not right(value):  # type: ignore[arg-type]
        raise ValueError(f"{name} must be {expected}; got {value!r}")
