"""What a user says of a comparison, and the settings that come of it, the data and the presets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import is_number, unknown_name
from graphnorms.lab.budgets import QUICK, budget_named
from graphnorms.lab.protocol import (
    BASELINE,
    HOLDOUT,
    PROTOCOLS,
    CompareSettings,
    require_integer,
)

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.models import ModelFactory

DEFAULT_NORMS = ("none", "batch", "layer", "instance", "graph")
DEFAULT_PROTOCOL: Final = "nested"
DEFAULT_FOLDS: Final = 10
DEFAULT_PRESET: Final = "default"
DEFAULT_DEVICE: Final = "cpu"


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
    from graphnorms.training import DEFAULT_METRICS, metric_for, training_defaults

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
    split = _split_kind(graphs, choices) if on_a_split else "fold"
    splits = graphs.num_splits if split == "given" else 1
    if choices.split is not None and not on_a_split:
        raise ValueError(
            f"split {choices.split!r} goes with protocol split; the protocol is {protocol}"
        )
    if on_a_split and choices.folds is not None:
        raise ValueError(f"folds is {choices.folds}, but protocol split has none; leave it out")
    on_one_split = on_a_split and splits == 1
    runs = budget.seeds if on_one_split else 1 if protocol == "paper" else budget.runs
    norms = _norms(DEFAULT_NORMS if choices.norms is None else choices.norms)
    return CompareSettings(
        dataset=dataset,
        protocol=protocol,
        budget=choices.budget or QUICK,
        norms=norms,
        model=name_of(model),
        preset=preset,
        architecture=_architecture(graphs, model, preset, choices),
        metric=metric_for(metric, graphs.task).name,
        unit=graphs.task.unit,
        split=split,
        folds=splits if on_a_split else _folds(protocol, len(norms), choices.folds),
        runs=runs if choices.runs is None else choices.runs,
        holdout=HOLDOUT,
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
        module = ".".join(Path(file).with_suffix("").parts)
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


def _folds(protocol: str, norms: int, given: int | None) -> int:
    """Ten folds if nothing is said, or as many as it takes to judge so many norms."""
    if given is not None:
        return given
    from graphnorms.lab.design import Design

    return max(DEFAULT_FOLDS, Design(protocol=protocol).least(math.comb(norms, 2)))


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
    try:
        return float(value) if is_number(value) else value
    except OverflowError:  # an integer that the check of the settings will refuse
        return value


def require_device(device: str) -> None:
    """Raise a `ValueError` unless models can be trained on the device named."""
    import torch

    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError) as error:
        # torch's own messages run over many lines; the first says what is wrong
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {device!r} cannot be used: {reason}") from None
