"""Trials that user code trains: `train(norm, split, seed, report)`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from graphnorms.data import GraphSet, SplitConfig, split_items
from graphnorms.data.pyg_list import to_pyg
from graphnorms.dropin.known_norms import recognize
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.models import NormMaker, derive_seed
from graphnorms.process_state import known_state
from graphnorms.training.checkpoints import Checkpoints
from graphnorms.training.metrics import Metric, metric_named
from graphnorms.training.record import Record, environment_of
from graphnorms.training.trainer import Trainer
from graphnorms.training.trial_config import TrialConfig
from graphnorms.training.trial_model import Norms, norm_of
from graphnorms.training.trial_report import RENAMED, Report, as_number
from graphnorms.training.trial_start import TrialStart


class TrialNorm(NormMaker):
    """The normalization of a trial, for user code that trains.

    `norm(64)` is a layer of 64 channels, `norm(old)` one in the place of another norm, so that
    `replace_norms(model, to=norm)` works, and `str(norm)` the name. Making a layer draws nothing
    from the generators of the process: what a model draws for its other weights does not depend on
    the norm.

    Args:
        norm: The normalization as text, or a user-defined one.
        seed: Seed of the layers.
        start: Gets the layers.
    """

    def __init__(self, norm: str | OwnNorm, seed: int, start: TrialStart) -> None:
        super().__init__(norm)
        self._seed = seed
        self._start = start
        self._made = 0

    def __call__(self, channels: int | nn.Module, **arguments: Any) -> nn.Module:
        """Make a layer.

        Args:
            channels: Number of channels, or the norm that the layer replaces.
            arguments: Arguments of the layer, see `graphnorms.make_norm`.

        Raises:
            ValueError: The normalization needs more inputs than features and graphs, or the norm
                has no number of channels.
        """
        if isinstance(channels, nn.Module):
            old, known = channels, recognize(channels)
            if known is None or known.channels is None:
                raise ValueError(
                    f"a {type(old).__name__} has no number of channels, which {self.name} needs"
                )
            channels = known.channels
            like = next((p for p in old.parameters() if p.is_floating_point()), None)
            if like is not None:
                arguments = {"device": like.device, "dtype": like.dtype, **arguments}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(self._seed, f"norm {self._made}"))
            layer = super().__call__(channels, **arguments)
        self._made += 1
        self._start.norms.add(layer)
        return layer


@dataclass(frozen=True, eq=False)
class TrialSplit:
    """The data of a trial, and how they are divided.

    Args:
        train, validation, test: Ids of the items of each part, ascending int64: graphs, or nodes in
            node-level tasks.
        graphs: The data as a graph set.
        objects: The items as the user gave them, if they came as a list.
        fold: Number of the fold, counted from 0.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    graphs: GraphSet
    objects: Sequence[Any] | None = None
    fold: int = 0

    @property
    def val(self) -> Tensor:
        """The same as `validation`."""
        return self.validation

    @cached_property
    def data(self) -> Sequence[Any]:
        """All items: the user's objects, or PyG's `Data`."""
        return to_pyg(self.graphs) if self.objects is None else self.objects

    def take(self, part: str) -> list[Any]:
        """Return the items of `"train"`, `"val"` or `"test"` out of `data`."""
        ids: Tensor = getattr(self, part)
        return [self.data[place] for place in ids.tolist()]


@dataclass(frozen=True, eq=False)
class TrialData:
    """What trials of user code get: the graph set, and the objects that it was made of, if any."""

    graphs: GraphSet
    objects: Sequence[Any] | None = None


def run_own_trial(
    config: TrialConfig,
    data: TrialData,
    on_epoch: Callable[[], None] | None = None,
    *,
    trainer: Trainer | None = None,
    norms: Norms | None = None,
    folder: Path | None = None,
) -> Record:
    """Have user code train one model on one split, and return the record.

    The global generators of Python, NumPy and torch are seeded by the trial, and settings of the
    process are known and restored, as in `graphnorms.training.run_trial`.

    Args:
        config: The trial.
        data: The data.
        on_epoch: Called after each report.
        trainer: The user's code; None imports it by its name.
        norms: Make user-defined norms, by name; others are imported by their names.
        folder: The run's folder, for checkpoints; None: a trial that is ended begins anew.

    Raises:
        ValueError: The code returns no score, or one that is not a number.
    """
    with known_state(config.seed):
        trainer = trainer or Trainer.named(config.model)
        items = split_items(data.graphs, SplitConfig(**config.split))
        split = TrialSplit(
            items.train,
            items.validation,
            items.test,
            data.graphs,
            data.objects,
            config.split.get("fold", 0),
        )
        start = TrialStart()
        files = Checkpoints(folder, config.key)
        report = Report(start, on_epoch, files, keeps=config.stage == "final")
        seed = config.seed % 2**31  # numpy.random.seed takes no more than 32 bits
        given = {
            "norm": TrialNorm(norm_of(config, norms), seed, start),
            "split": split,
            "seed": seed,
            "report": report,
            **{name: _value(config, name) for name in config.model["takes"]},
            **config.model.get("arguments", {}),
        }
        with start.watching():
            if trainer.by == "lightning":
                from graphnorms.training.lightning_trial import train_lightning

                result: Any = train_lightning(trainer, config, given, start)
            else:
                result = trainer.function(**trainer.asked(given))
        scores = scores_of(result, trainer.name, needs_validation=config.stage == "select")
        check_range(scores, metric_named(config.metric), trainer.name)
    counts = {f"{part}_items": len(getattr(items, part)) for part in ("train", "validation")}
    tested = len(items.test) if config.stage == "final" else 0
    counts |= {"parameters": start.parameters} if start.parameters else {}
    if config.stage != "final":
        scores.pop("test_score", None)
    return Record(
        key=config.key,
        config=config.to_dict(),
        status="done",
        history=report.columns(),
        outcome=scores,
        counts=counts | {"test_items": tested},
        environment=environment_of(config),
        timing={"train": report.seconds, "total": report.elapsed},
        start=start.to_dict(),
    )


def scores_of(result: Any, name: str, *, needs_validation: bool) -> dict[str, float]:
    """Return the outcome of a trial, given what user code returned.

    Args:
        result: A number, which is the test score, or a mapping with `"test"`, `"val"` and further
            numbers.
        name: Of the code, for messages.
        needs_validation: Whether the trial chooses a learning rate.

    Raises:
        ValueError: There is no score, or it is no finite number.
    """
    expected = "a score, or {'test': …, 'val': …}"
    if result is None:
        raise ValueError(f"{name} returned nothing, expected {expected}")
    if not isinstance(result, Mapping):
        result = {"test": result}
    found: dict[str, float] = {}
    for key, value in result.items():
        number = as_number(f"{name}: score {key!r}", value)
        key = RENAMED.get(key, key)
        found[f"{key}_score" if key in ("test", "validation") else str(key)] = number
    wanted = "validation" if needs_validation else "test"
    if f"{wanted}_score" not in found:
        why = ", which chooses the learning rate" if needs_validation else ""
        raise ValueError(f"{name} returned no {wanted} score{why}; expected {expected}")
    if not math.isfinite(found[f"{wanted}_score"]):
        raise ValueError(f"{name}: the {wanted} score is {found[f'{wanted}_score']}")
    return found


def check_range(scores: Mapping[str, float], metric: Metric, name: str) -> None:
    """Raise a `ValueError` if a score is none that the metric can have, such as a percentage."""
    least, most = sorted((metric.least, metric.most))
    for part in ("validation", "test"):
        value = scores.get(f"{part}_score", least)
        if math.isfinite(value) and not least - _ROUNDING <= value <= most + _ROUNDING:
            to = f" to {most:g}" if math.isfinite(most) else " on"
            percentage = "divide a percentage by 100, or " if metric.fraction else ""
            raise ValueError(
                f"{name}: the {part} score is {value:g}, expected {metric.title} from {least:g}{to}"
                f"; {percentage}name another score with --metric NAME:max or NAME:min"
            )


_ROUNDING: Final = 1e-6


def _value(config: TrialConfig, name: str) -> Any:
    """Return the value of an option of `CHOSEN`."""
    return config.model[name] if name in config.model else getattr(config, name)
