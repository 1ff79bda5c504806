"""Resolve the options of a comparison: complete them from data, preset and budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from graphnorms.errors import is_number, unknown_name
from graphnorms.lab.architectures import architecture_of
from graphnorms.lab.budgets import QUICK, Budget, budget_named
from graphnorms.lab.halving import HALVING
from graphnorms.lab.lookup import found_model, looked_up, name_of, own_arguments, trainer_of
from graphnorms.lab.option_kinds import DEFAULT_DEVICE, DEFAULT_PRESET
from graphnorms.lab.options import Options
from graphnorms.lab.search import require_optuna
from graphnorms.lab.search_space import ADAMW_DECAY, RANGES, Range, ranges_of
from graphnorms.lab.settings import DEFAULT_FOLDS, HOLDOUT, Settings
from graphnorms.lab.treatments import combinations, values_of

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.layers.own_norm import OwnNorm
    from graphnorms.training.trainer import Trainer

_AS_GIVEN: Final = (
    "folds",
    "repeats",
    "group_twins",
    "runs",
    "seed",
    "epochs",
    "batch_size",
    "proposals",
    "schedule",
    "warmup",
    "weight_decay",
    "clip",
    "force_weight",
    "patience",
    "num_neighbors",
    "margin",
    "reasons",
)
"""Options that are settings as they are."""

_FLOATS: Final = ("weight_decay", "clip", "force_weight", "margin")
"""Of these, those that are floats: 1 and 1.0 are one setting."""


def resolve(options: Options, graphs: GraphSet, dataset: str) -> Settings:
    """Complete options with what data, preset and budget say, and check them.

    Args:
        options: The options.
        graphs: The data.
        dataset: What to call the data.

    Raises:
        ValueError: A value is not possible, a name is not known, or the device is not there.
    """
    from graphnorms.training import metric_for, training_defaults
    from graphnorms.training.optimizer import optimizer_text

    options.check()
    if options.searched is not None:
        require_optuna()
    elif options.proposals is not None:
        raise ValueError(f"proposals is {options.proposals}, but --search names no option")
    options = looked_up(options)
    norms: Any = options.norms
    vary = {name: list(values) for name, values in (options.vary or {}).items()}
    own = own_arguments(trainer_of(options), vary)
    varied = combinations(vary)
    chosen = [
        replace(options, vary=None, **{n: v for n, v in each.items() if n not in own})
        for each in varied
    ]
    options = chosen[0]
    protocol = protocol_of(options, graphs)
    budget, preset = budget_named(options.budget or QUICK), options.preset or DEFAULT_PRESET
    device = options.device or DEFAULT_DEVICE
    require_device(device)
    trainer = trainer_of(options)
    model: Any = trainer or options.model or default_model(graphs, preset)
    made = [
        architecture_of(graphs, found_model(each.model) or model, preset, each)
        | ({"arguments": {name: values[name] for name in own}} if own else {})
        for each, values in zip(chosen, varied, strict=True)
    ]
    optimizer = optimizer_text(options.optimizer or "adam")
    search = _searched(options, optimizer)
    for each, (name, one) in itertools.product(chosen, search.items()):
        for value in one.values or one.ends:
            try:  # a model may not take the option, or refuse a size
                sized: dict[str, Any] = {name: value}
                of_each = found_model(each.model) or model
                architecture_of(graphs, of_each, preset, replace(each, **sized))
            except ValueError as error:
                raise ValueError(f"search has {name}={one}, but {error}") from None
    defaults = training_defaults(preset)
    split, splits = _split_of(options, protocol, graphs)
    metric = _metric(options, graphs, trainer)
    if options.force_weight is not None and graphs.atoms is None:
        raise ValueError(
            f"force_weight is {options.force_weight:g}, but {graphs.name} has {graphs.task}, "
            "without forces; leave it out"
        )
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
        architectures=dict(zip(map(values_of, varied), made, strict=True)) if vary else {},
        metric=metric_for(metric, graphs.task).name,
        unit="" if ":" in metric else graphs.task.unit,
        split=split,
        folds=splits or _folds(protocol, len(norms) * len(chosen)),
        runs=_runs(budget, protocol, splits),
        holdout=HOLDOUT,
        split_seed=defaults.split_seed,
        seed=0,
        epochs=max(1, round(defaults.epochs * budget.epochs)),
        batch_size=defaults.batch_size,
        learning_rates=_rates(options.learning_rate, budget.learning_rates, ends=bool(search)),
        search={name: str(one) for name, one in search.items()},
        proposals=budget.proposals if search else None,
        halving=options.halving,
        schedule=defaults.schedule,
        weight_decay=_weight_decay(optimizer, defaults.weight_decay),
        margin=None,
        device=device,
        optimizer=optimizer,
    )
    given: dict[str, Any] = {
        name: float(value) if name in _FLOATS else value
        for name in _AS_GIVEN
        if (value := getattr(options, name)) is not None
    }
    if options.num_neighbors is not None:
        single = isinstance(options.num_neighbors, int)
        given["num_neighbors"] = [options.num_neighbors] if single else [*options.num_neighbors]  # type: ignore[misc]
    if trainer is not None:
        given |= {"learning_rates": ()} if "learning_rate" not in settings.takes else {}
        given |= {"epochs": 1} if "epochs" not in settings.takes else {}
    settings = replace(settings, **given)
    if settings.halving:
        _require_halvable(settings)
    return settings


def _require_halvable(settings: Settings) -> None:
    """Refuse a halving of nothing."""
    if settings.own_training and not {"learning_rate", "epochs"} <= {*settings.takes}:
        raise ValueError(
            f"search is {HALVING}, which needs trials of several lengths, but {settings.model} "
            "does not take epochs and learning_rate"
        )
    if len(settings.learning_rates) < 2:
        raise ValueError(
            f"search is {HALVING}, which chooses among learning rates, but there is one, "
            f"{settings.learning_rates[0]:g}; name several with --lr"
        )


def _official(graphs: GraphSet) -> str:
    """Return the official metric of the data, if they have one that scores their task."""
    from graphnorms.training import METRICS

    known = METRICS.get(graphs.metric)
    return graphs.metric if known is not None and graphs.task.kind in known.kinds else ""


def _metric(options: Options, graphs: GraphSet, trainer: Trainer | None) -> str:
    """Return the metric that is asked for, or the task's.

    Raises:
        ValueError: User code is to compute it, and the lab trains; or there is no target to tell.
    """
    from graphnorms.training import DEFAULT_METRICS
    from graphnorms.training.metrics import logged_metric

    if options.metric is None:
        if trainer is not None and len(graphs.y.unique()) < 2:
            raise ValueError(
                f"{graphs.name} has no targets, so say what {trainer.name} returns: --metric "
                "NAME:max or NAME:min"
            )
        return _official(graphs) or DEFAULT_METRICS[graphs.task.kind]
    if trainer is None and logged_metric(options.metric) is not None:
        raise ValueError(
            f"metric is {options.metric!r}, a value that a trial of yours returns (--trial), but "
            "the lab trains"
        )
    return options.metric


def default_model(graphs: GraphSet, preset: str = DEFAULT_PRESET) -> str:
    """Return the model when none is named: GCN for nodes, GINE for edges with features, GIN.

    For energies and forces it is PaiNN. A preset without a GINE has a GIN for those.
    """
    from graphnorms.models import preset_models

    if graphs.atoms is not None:
        return "painn"
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
    if graphs.atoms is not None:
        raise ValueError(
            "group_twins keeps isomorphic graphs in one fold, but the places of atoms tell them "
            "apart; leave it out"
        )
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


def _rates(
    given: float | Sequence[float] | None, grid: tuple[float, ...], *, ends: bool
) -> tuple[float, ...]:
    """Return the learning rates, ascending; as floats, for 1 and 1.0 to be one setting.

    Args:
        given: Those that were asked for.
        grid: Those of the budget.
        ends: Whether only the lowest and the highest count, between which there is a search.
    """
    if given is not None:
        grid = tuple(sorted(map(float, [given] if is_number(given) else given)))  # type: ignore[arg-type]
    return (grid[0], grid[-1]) if ends and len(grid) > 1 else grid


def _searched(options: Options, optimizer: str) -> dict[str, Range]:
    """Return what is searched beside the learning rate."""
    if options.searched is None:
        return {}
    adamw = optimizer.partition(":")[0] == "adamw"
    return ranges_of(options.searched, ADAMW_DECAY if adamw else RANGES["weight_decay"])


def _weight_decay(optimizer: str, of_preset: float) -> float:
    """Return the preset's, but torch's default for AdamW, which without any is Adam."""
    return 0.01 if optimizer.partition(":")[0] == "adamw" else of_preset


def require_device(device: str) -> None:
    """Raise a `ValueError` unless models can be trained on the device named."""
    import torch

    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError) as error:
        # The first of the many lines of torch's message has the reason.
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {device!r} cannot be used: {reason}") from None
