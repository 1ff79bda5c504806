"""What repeats a comparison: its choices, as options of a command or arguments of a call."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from graphnorms.lab.protocol import Choices, CompareSettings, said


def choices_of(settings: CompareSettings) -> Choices:
    """Return choices that resolve to these settings, whatever the defaults are one day."""
    architecture = settings.architecture
    folded = settings.protocol != "split"
    return Choices(
        norms=settings.norms,
        protocol=settings.protocol,
        budget=settings.budget,
        model=settings.model,
        preset=settings.preset,
        norm_place=architecture["norm_place"],
        residual=architecture["residual_place"] if architecture["residual"] else "none",
        layers=architecture["layers"],
        hidden=architecture["hidden"],
        metric=settings.metric,
        split=None if folded else settings.split,
        folds=settings.folds if folded else None,
        runs=settings.runs,
        epochs=settings.epochs,
        learning_rate=settings.learning_rates,
        weight_decay=settings.weight_decay,
        batch_size=settings.batch_size,
        margin=settings.margin,
        seed=settings.seed,
        device=settings.device,
    )


def command_of(
    settings: CompareSettings, reading: Mapping[str, Any], *, in_memory: bool = False
) -> str:
    """Say what repeats a comparison: a command line, or a call if the data came as an object.

    Args:
        settings: Those of the comparison.
        reading, in_memory: Of the data, see `graphnorms.comparison.sources.Source`.
    """
    options = {**reading, **said(choices_of(settings))}
    if in_memory:
        arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
        return f"graphnorms.compare(dataset, {arguments})"
    words = ["graphnorms", "compare", settings.dataset]
    for name, value in options.items():
        option = "lr" if name == "learning_rate" else name.replace("_", "-")
        words += [f"--{option}", _text(value)]
    return shlex.join(words)


def _text(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
