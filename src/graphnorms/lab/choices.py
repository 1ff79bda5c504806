"""What a user says of a comparison, and the settings that come of it, the data and the presets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
    from graphnorms.layers.own_norm import OwnNorm
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
        norms: Names, `module:function`, or functions that make layers of the user's own.
        model: A name, `module:function`, or a function that makes a model of the user's own.
        learning_rate: One rate, or the grid.
        split: `"given"` or `"random"`, for the protocol `"split"`.
        norm_place: Each norm `"before-activation"` or `"after-activation"`.
        residual: `"none"`, or where every convolution but the first adds its input:
            `"after-norm"` or `"before-norm"`.
        layers, hidden: Number of convolutions, and their channels.
    """

    norms: Sequence[str | OwnNorm | Callable[..., Any]] | str | None = None
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
    repeats: int | None = None
    group_twins: bool | None = None
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
    if on_a_split and choices.repeats is not None:
        raise ValueError(_no_repeats(choices.repeats, graphs, splits))
    if choices.group_twins:
        _require_groupable(graphs, split)
    on_one_split = on_a_split and splits == 1
    norms = chosen_norms(choices)
    runs = budget.seeds if on_one_split else 1 if protocol == "paper" else budget.runs
    return CompareSettings(
        dataset=dataset,
        protocol=protocol,
        budget=choices.budget or QUICK,
        norms=tuple(map(name_of, norms)),
        own_norms={norm.name: _about(norm) for norm in norms if not isinstance(norm, str)},
        model=name_of(model),
        preset=preset,
        architecture=_architecture(graphs, model, preset, choices),
        metric=metric_for(metric, graphs.task).name,
        unit=graphs.task.unit,
        split=split,
        folds=splits if on_a_split else _folds(protocol, len(norms), choices.folds),
        repeats=1 if choices.repeats is None else choices.repeats,
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
        group_twins=bool(choices.group_twins),
    )


def _require_groupable(graphs: GraphSet, split: str) -> None:
    """Refuse to keep twins together where they cannot be."""
    if graphs.task.level == "node":
        raise ValueError(
            "group_twins keeps isomorphic graphs in one fold, but the task is about nodes"
        )
    if split == "given":
        raise ValueError(
            f"group_twins changes folds, but the split of {graphs.name} is given; ask for "
            "--split random or --protocol nested"
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
    from graphnorms.user_code import as_spec, is_spec

    model = choices.model
    if not isinstance(model, str):
        return ModelFactory.of(model) if callable(model) else model
    if model in MODELS:
        return model
    model = as_spec(model)
    if not is_spec(model):
        raise ValueError(
            f"{unknown_name('model', model, MODELS)}; one of your own is module:function"
        )
    return ModelFactory.of(model)


def chosen_norms(choices: Choices) -> list[str | OwnNorm]:
    """Return the norms by their names as the catalogue spells them, the baseline among them.

    Those of the user's own are looked for.

    Raises:
        ValueError: One is not known or not found, or two have the same name.
    """
    from graphnorms.layers.factory import lookup
    from graphnorms.layers.own_norm import OwnNorm, is_own
    from graphnorms.layers.spec import split_specs

    given = DEFAULT_NORMS if choices.norms is None else choices.norms
    found: list[str | OwnNorm] = []
    for norm in split_specs(given) if isinstance(given, str) else given:
        if isinstance(norm, OwnNorm):
            found.append(norm)
        elif not isinstance(norm, str) or is_own(norm):
            found.append(OwnNorm.of(norm))
        elif norm.strip():
            found.append(lookup(norm.strip()).name)
    names = [name_of(norm) for norm in found]
    for norm in found:
        if not isinstance(norm, str) and (is_known(norm.name) or names.count(norm.name) > 1):
            raise ValueError(
                f"two norms are called {norm.name!r}; give the class or function another name"
            )
    return found if BASELINE in names else [BASELINE, *found]


def is_known(norm: str) -> bool:
    """Whether the catalogue has a norm of this name."""
    from graphnorms.layers.catalog import CATALOG

    return norm.partition(":")[0] in CATALOG


def name_of(choice: str | ModelFactory | OwnNorm) -> str:
    """Return what a model or norm is called."""
    return choice if isinstance(choice, str) else choice.name


def _about(norm: OwnNorm) -> dict[str, Any]:
    """What the settings keep of a norm of the user's own."""
    return {"source": norm.source, **({"in_memory": True} if norm.in_memory else {})}


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


def _no_repeats(repeats: int, graphs: GraphSet, splits: int) -> str:
    """Say why a split is not repeated, and what is."""
    if splits > 1:
        why = f"the {splits} splits of {graphs.name} are given and cannot be cut anew; leave it out"
    else:
        why = "protocol split has no folds to cut anew; ask for more seeds with --runs"
    return f"repeats is {repeats}, but {why}, or cut folds with --protocol nested"


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
