"""What repeats a comparison: its choices, as options of a command or arguments of a call."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from graphnorms.lab.options import Choices, said
from graphnorms.lab.settings import CompareSettings

_NO = {"keep_loops": "--drop-loops", "keep_repeats": "--merge-repeats"}


def choices_of(settings: CompareSettings) -> Choices:
    """Return choices that resolve to these settings, whatever the defaults are one day."""
    architecture = settings.architecture
    # Of a model of the user's own neither is known here.
    residual = {True: architecture.get("residual_place"), False: "none", None: None}
    folded = settings.protocol != "split"
    return Choices(
        norms=settings.norms,
        protocol=settings.protocol,
        budget=settings.budget,
        model=settings.model,
        preset=settings.preset,
        norm_place=architecture.get("norm_place"),
        residual=residual[architecture.get("residual")],
        layers=architecture["layers"],
        hidden=architecture["hidden"],
        metric=settings.metric,
        split=None if folded else settings.split,
        folds=settings.folds if folded else None,
        repeats=settings.repeats if folded else None,
        group_twins=settings.group_twins or None,
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
    settings: CompareSettings,
    reading: Mapping[str, Any],
    *,
    in_memory: bool = False,
    model_in_memory: bool = False,
) -> str:
    """Say what repeats a comparison: a command line, or a call if data, model or norm were objects.

    Args:
        settings: Those of the comparison.
        reading, in_memory: Of the data, see `graphnorms.lab.sources.Source`.
        model_in_memory: Whether the model is made by a function that came as an object.
    """
    options = {**reading, **said(choices_of(settings))}
    if (split_by := options.pop("split_by", None)) is not None:
        options["split"] = split_by
    lost = [name for name, about in settings.own_norms.items() if about.get("in_memory")]
    if in_memory or model_in_memory or lost:
        texts = {name: repr(value) for name, value in options.items()}
        norms = (name if name in lost else repr(name) for name in settings.norms)
        texts["norms"] = f"({', '.join(norms)})"
        if model_in_memory:
            texts["model"] = settings.model
        dataset = "dataset" if in_memory else repr(settings.dataset)
        arguments = ", ".join(f"{name}={text}" for name, text in texts.items())
        return f"graphnorms.compare({dataset}, {arguments})"
    words = ["graphnorms", "compare", settings.dataset]
    for name, value in options.items():
        option = "lr" if name == "learning_rate" else name.replace("_", "-")
        if isinstance(value, bool):
            words += [f"--{option}"] if value else [_NO[name]] if name in _NO else []
        else:
            words += [f"--{option}", _text(value)]
    return shlex.join(words)


def _text(value: Any) -> str:
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)
