"""The model of a trial: one of the lab's, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphnorms.data import GraphSet, Task
from graphnorms.layers.factory import format_spec, lookup, parse_spec
from graphnorms.layers.power_norm import PowerNorm
from graphnorms.models import GNN, ModelConfig
from graphnorms.models.own import OwnModel, OwnModelConfig, build_own

Model = GNN | OwnModel

Factory = Callable[..., Any]
"""Makes a model of the user's own."""


def is_own(model: Mapping[str, Any]) -> bool:
    """Whether what a `TrialConfig` says of the model is about one of the user's own."""
    return "source" in model


_WARMUP = 10  # training steps for each that PowerNorm warms up


def for_steps(norm: str, steps: int) -> str:
    """Return the text of a normalization for a training of so many steps.

    That of PowerNorm, unless it says it, is given a warm-up of a tenth of them: its own of 10000
    batches would not end within a comparison.
    """
    name, arguments = parse_spec(norm)
    if lookup(norm).layer is not PowerNorm or "warmup" in arguments:
        return norm
    return format_spec(name, {**arguments, "warmup": max(1, steps // _WARMUP)})


def build_model(
    model: Mapping[str, Any],
    norm: str,
    graphs: GraphSet,
    *,
    seed: int,
    factory: Factory | None = None,
) -> Model:
    """Make the model of a trial on some graphs, in single precision and on the CPU.

    Args:
        model: That of the `TrialConfig`.
        norm: The normalization as text.
        graphs: What it is for.
        seed: Seeds the initial weights.
        factory: Makes a model of the user's own; None finds it by its name.

    Raises:
        ValueError: There is no such model, or it does not suit the graphs or the norm.
    """
    channels = graphs.num_features, graphs.num_edge_features
    return build_for(model, norm, *channels, graphs.task, seed=seed, factory=factory)


def build_for(
    model: Mapping[str, Any],
    norm: str,
    in_channels: int,
    edge_channels: int,
    task: Task,
    *,
    seed: int,
    factory: Factory | None = None,
) -> Model:
    """Make a model for graphs of which only this is known, see `build_model`."""
    if model.get("head") != task.level:
        raise ValueError(
            f"the model has the head {model.get('head')!r}, but the task is {task}; "
            f"expected the head {task.level!r}"
        )
    if is_own(model):
        config = OwnModelConfig(**model)
        return build_own(
            config, factory or config.find(), norm, in_channels, task.outputs,
            edge_channels=edge_channels, task=task.kind, seed=seed,
        )  # fmt: skip
    return GNN(
        ModelConfig(**model), norm, in_channels, task.outputs, edge_channels=edge_channels,
        seed=seed,
    )  # fmt: skip
