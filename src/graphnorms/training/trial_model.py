"""Builds the model of a trial: one of ours, or a user-defined one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphnorms.data import GraphSet, Task
from graphnorms.data.task_kinds import FORCES
from graphnorms.layers.factory import lookup
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.layers.power_norm import PowerNorm
from graphnorms.layers.spec import format_spec, parse_spec
from graphnorms.models import GNN, ForceModel, ForceModelConfig, ModelConfig
from graphnorms.models.own import OwnModel, OwnModelConfig, build_own
from graphnorms.training.trial_config import TrialConfig

Model = GNN | OwnModel | ForceModel

Factory = Callable[..., Any]
"""Makes a user-defined model."""

Norms = Mapping[str, Callable[..., Any]]
"""Functions that make the layers of user-defined norms given as objects, by name."""


def is_own(model: Mapping[str, Any]) -> bool:
    """Whether the model of a `TrialConfig` is user-defined."""
    return "source" in model


_WARMUP = 10  # training steps per step of PowerNorm's warm-up


def norm_of(config: TrialConfig, norms: Norms | None = None) -> str | OwnNorm:
    """Return the normalization of a trial: its text, or the user-defined one.

    Args:
        config: The trial.
        norms: Make user-defined norms, by name; others are imported by their names.

    Raises:
        ValueError: The name is unknown, or the source has changed.
    """
    name, source = config.norm, config.norm_source
    if source is None:
        return name
    if norms is not None and name in norms:
        return OwnNorm(name=name, source=source, function=norms[name], in_memory=True)
    return OwnNorm.found(name, source)


def for_steps(norm: str, steps: int) -> str:
    """Return the text of a normalization, adapted to the number of training steps.

    PowerNorm gets a warm-up of a tenth of the steps unless its text sets it: the default of 10000
    batches would not end within a comparison.
    """
    name, arguments = parse_spec(norm)
    if lookup(norm).layer is not PowerNorm or "warmup" in arguments:
        return norm
    return format_spec(name, {**arguments, "warmup": max(1, steps // _WARMUP)})


def build_model(
    model: Mapping[str, Any],
    norm: str | OwnNorm,
    graphs: GraphSet,
    *,
    seed: int,
    factory: Factory | None = None,
) -> Model:
    """Build the model of a trial for some graphs, in single precision and on the CPU.

    Args:
        model: The `model` of the `TrialConfig`.
        norm: The normalization, see `norm_of`.
        graphs: The data set.
        seed: Seed of the initial weights.
        factory: Makes a user-defined model; None imports it by its name.

    Raises:
        ValueError: The model is unknown, or does not fit the graphs or the norm.
    """
    channels = graphs.num_features, graphs.num_edge_features
    return build_for(model, norm, *channels, graphs.task, seed=seed, factory=factory)


def build_for(
    model: Mapping[str, Any],
    norm: str | OwnNorm,
    in_channels: int,
    edge_channels: int,
    task: Task,
    *,
    seed: int,
    factory: Factory | None = None,
) -> Model:
    """Build a model for graphs with these channels and task, see `build_model`."""
    if model.get("head") != task.level:
        raise ValueError(
            f"the head of the model is {model.get('head')!r}, expected {task.level!r} for {task}"
        )
    if task.kind == FORCES:
        return ForceModel(ForceModelConfig(**model), norm, seed=seed)
    if is_own(model):
        config = OwnModelConfig(**model)
        return build_own(
            config,
            factory or config.find(),
            norm,
            in_channels,
            task.outputs,
            edge_channels=edge_channels,
            task=task.kind,
            seed=seed,
        )
    return GNN(
        ModelConfig(**model),
        norm,
        in_channels,
        task.outputs,
        edge_channels=edge_channels,
        seed=seed,
    )
