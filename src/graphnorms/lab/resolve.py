"""Resolve the options of a comparison: complete them from data, preset and budget."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import is_number, unknown_name
from graphnorms.lab.budgets import QUICK, Budget, budget_named
from graphnorms.lab.options import (
    BASELINE,
    DEFAULT_DEVICE,
    DEFAULT_NORM,
    DEFAULT_NORMS,
    DEFAULT_PRESET,
    Options,
)
from graphnorms.lab.settings import DEFAULT_FOLDS, HOLDOUT, Settings
from graphnorms.lab.treatments import combinations, values_of

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.models import ModelFactory

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


def resolve(options: Options, graphs: GraphSet, dataset: str) -> Settings:
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
    options = looked_up(options)
    norms: Any = options.norms
    vary = {name: list(values) for name, values in (options.vary or {}).items()}
    chosen = [replace(options, vary=None, **varied) for varied in combinations(vary)]
    options = chosen[0]
    protocol = protocol_of(options, graphs)
    budget, preset = budget_named(options.budget or QUICK), options.preset or DEFAULT_PRESET
    device = options.device or DEFAULT_DEVICE
    require_device(device)
    model: Any = options.model or default_model(graphs, preset)
    made = [_architecture(graphs, _model(each.model) or model, preset, each) for each in chosen]
    defaults = training_defaults(preset)
    split, splits = _split_of(options, protocol, graphs)
    metric = options.metric or _official(graphs) or DEFAULT_METRICS[graphs.task.kind]
    settings = Settings(
        dataset=dataset,
        protocol=protocol,
        budget=options.budget or QUICK,
        norms=tuple(map(name_of, norms)),
        own_norms={norm.name: _kept(norm) for norm in norms if not isinstance(norm, str)},
        model=name_of(model),
        preset=preset,
        architecture=made[0],
        vary=vary,
        architectures=dict(zip(map(values_of, combinations(vary)), made, strict=True))
        if vary
        else {},
        metric=metric_for(metric, graphs.task).name,
        unit=graphs.task.unit,
        split=split,
        folds=splits or _folds(protocol, len(norms) * len(chosen)),
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


def _official(graphs: GraphSet) -> str:
    """Return the official metric of the data, if they have one that scores their task."""
    from graphnorms.training import METRICS

    known = METRICS.get(graphs.metric)
    return graphs.metric if known is not None and graphs.task.kind in known.kinds else ""


def looked_up(options: Options) -> Options:
    """Return the options with the user's own model and norms loaded.

    Varied models are checked, and called by their names.

    Raises:
        ValueError: One is not known or not found, or two norms have the same name.
    """
    vary = options.vary
    if vary is not None:
        vary = {name: [_value(name, value) for value in values] for name, values in vary.items()}
    norms = _norms(options.norms, alone=vary is not None)
    return replace(options, model=_model(options.model), norms=norms, vary=vary)


def _value(option: str, value: Any) -> Any:
    """Return the value of a varied option as it is kept."""
    if option == "weight_decay":
        return float(value)
    if option != "model":
        return value
    model = _model(value)
    if not isinstance(model, str) and model is not None and model.in_memory:
        raise ValueError(
            f"{model.name} was made in memory; a model that is varied is named, as module:function"
        )
    return value if model is None else name_of(model)


def _model(model: Any) -> str | ModelFactory | None:
    from graphnorms.models import MODELS, ModelFactory
    from graphnorms.user_code import as_spec, is_spec

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


def _norms(given: Iterable[Any] | str | None, *, alone: bool = False) -> list[str | OwnNorm]:
    """Return the norms by their names as the catalogue spells them, the baseline among them.

    Args:
        given: The norms.
        alone: Whether only those given are compared, without the baseline; by default one.
    """
    from graphnorms.layers.factory import lookup
    from graphnorms.layers.own_norm import OwnNorm, is_own
    from graphnorms.layers.spec import split_specs

    if given is None:
        given = (DEFAULT_NORM,) if alone else DEFAULT_NORMS
    found: list[str | OwnNorm] = []
    for norm in split_specs(given) if isinstance(given, str) else given:
        if isinstance(norm, OwnNorm):
            found.append(norm)
        elif callable(norm) or (isinstance(norm, str) and is_own(norm)):
            found.append(OwnNorm.of(norm))
        elif not isinstance(norm, str):
            raise ValueError(
                f"a norm is {norm!r:.100}, expected a text, such as 'graph' or 'pair:scale=2', or "
                "what makes a norm"
            )
        elif norm.strip():
            found.append(lookup(norm.strip()).name)
    names = [name_of(norm) for norm in found]
    for norm in found:
        if not isinstance(norm, str) and (_is_known(norm.name) or names.count(norm.name) > 1):
            raise ValueError(
                f"two norms are called {norm.name!r}; give the class or function another name"
            )
    return found if alone or BASELINE in names else [BASELINE, *found]


def name_of(choice: str | ModelFactory | OwnNorm) -> str:
    """Return what a model or norm is called."""
    return choice if isinstance(choice, str) else choice.name


def _is_known(norm: str) -> bool:
    """Whether the catalogue has a norm of this name."""
    from graphnorms.layers.catalog import CATALOG

    return norm.partition(":")[0] in CATALOG


def default_model(graphs: GraphSet, preset: str = DEFAULT_PRESET) -> str:
    """Return the model when none is named: GCN for nodes, GINE for edges with features, GIN.

    A preset without a GINE has a GIN for those.
    """
    from graphnorms.models import preset_models

    if graphs.task.level == "node":
        return "gcn"
    return "gine" if graphs.num_edge_features and "gine" in preset_models(preset) else "gin"


def protocol_of(options: Options, graphs: GraphSet) -> str:
    """Return the protocol when none is named: that of the other options, or of the data.

    A split is asked for by `split`, and folds are by what only they have. Where neither is, data
    that carry a split are judged on it: on one that they came with, results can be compared with
    those of others.
    """
    if options.protocol is not None:
        return options.protocol
    if options.split is not None:
        return "split"
    folded = options.folds, options.repeats, options.group_twins
    asks_for_folds = any(value is not None for value in folded)
    return "nested" if graphs.split is None or asks_for_folds else "split"


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
        for name in ("norm_place", "residual", "edge_norm", "qk_norm", "heads"):
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
    for name in ("norm_place", "edge_norm", "qk_norm", "heads"):
        if getattr(options, name) is not None:
            changes[name] = getattr(options, name)
    if options.norm_place is not None:
        changes["residual_place"] = ""  # the model's own at this place
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
