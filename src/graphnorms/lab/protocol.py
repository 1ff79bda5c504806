"""The protocol of a comparison: from its settings to the trials, all of them paired.

Every norm meets the same folds, and on one fold every norm starts from the same seed, which gives
the initial weights, the batch order and the dropout masks. Two norms therefore differ, fold by
fold, in the normalization and in nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.errors import unknown_name

if TYPE_CHECKING:
    from graphnorms.data import GraphSet
    from graphnorms.training import TrialConfig

DEFAULT_NORMS = ("none", "batch", "layer", "instance", "graph")
SCHEDULES = ("linear", "constant")


@dataclass(frozen=True, kw_only=True)
class CompareSettings:
    """What defines a comparison, apart from the data and the code that runs it.

    Args:
        dataset: Name or path of the data set, as the user gave it.
        norms: Catalogue names, each once.
        model, preset: `"gin"` or `"gcn"`, and the named preset that `architecture` began as.
        architecture: Keyword arguments of the model, as `TrialConfig.model`.
        folds: Stratified folds; each is the validation set once.
        split_seed: Seeds the shuffling before the graphs are dealt to the folds.
        seed: Seeds weights, batch order and dropout; see `trials`.
        epochs: Passes over the training graphs.
        batch_size: Graphs in a minibatch.
        learning_rate: Adam's step size in the first epoch.
        schedule: `"linear"` (falls to 0 over the epochs) or `"constant"`.
        weight_decay: Adam's L2 penalty.
        device, dtype: Where and in which precision the models are trained.

    Raises:
        ValueError: A value is not possible; the message says what was given and expected.
    """

    dataset: str
    norms: tuple[str, ...]
    model: str
    preset: str
    architecture: dict[str, Any]
    folds: int
    split_seed: int
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    weight_decay: float
    device: str
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not self.norms:
            raise ValueError("no norms to compare; name at least one, e.g. graph")
        for norm in self.norms:
            if self.norms.count(norm) > 1:
                raise ValueError(f"norm {norm!r} is named more than once")
        require_integer("folds", self.folds, at_least=2)
        require_integer("epochs", self.epochs, at_least=1)
        require_integer("batch size", self.batch_size, at_least=1)
        require_integer("seed", self.seed, at_least=0)
        require_integer("split seed", self.split_seed, at_least=0)
        _require("learning rate", self.learning_rate, "a number > 0", lambda value: value > 0)
        _require("weight decay", self.weight_decay, "a number ≥ 0", lambda value: value >= 0)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        require_device(self.device)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-able data."""
        return asdict(self) | {"norms": list(self.norms)}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison is going to do.

    Args:
        settings: Everything that was asked for, resolved.
        dataset: The graphs.
        trials: Every trial, those done before included.
        kept: Trials that an earlier call has done.
        workers: Trials at a time.
        folder: Where the records go.
        command: What repeats the comparison.
    """

    settings: CompareSettings
    dataset: GraphSet
    trials: tuple[TrialConfig, ...]
    kept: int
    workers: int
    folder: Path
    command: str

    @property
    def detectable(self) -> float:
        """The smallest difference in accuracy that so many folds can show; NaN for one norm."""
        from graphnorms.lab.verdict import expected_detectable

        return expected_detectable(
            norms=len(self.settings.norms), folds=self.settings.folds, graphs=len(self.dataset)
        )


def resolve(
    graphs: GraphSet,
    *,
    dataset: str,
    norms: Sequence[str] | str,
    model: str,
    preset: str,
    norm_place: str | None,
    residual: str | None,
    folds: int,
    epochs: int | None,
    learning_rate: float | None,
    weight_decay: float | None,
    batch_size: int | None,
    seed: int,
    device: str,
) -> CompareSettings:
    """Complete what was asked for with what the preset says, and check it.

    Args:
        graphs: The data, which can decide the readout of a preset.
        dataset: What to call it.
        norms: Names, or one text with commas between them.
        model, preset, folds, seed, device: See `CompareSettings`.
        norm_place: `"before-activation"` or `"after-activation"`; None is the preset's.
        residual: `"none"`, `"after-norm"` or `"before-norm"`; None is the preset's.
        epochs, learning_rate, weight_decay, batch_size: None is the preset's.

    Raises:
        ValueError: A value is not possible, or a name is not known.
    """
    from graphnorms.layers.factory import lookup, split_specs
    from graphnorms.models import preset as model_preset
    from graphnorms.training import training_defaults

    names = split_specs(norms) if isinstance(norms, str) else norms
    has_labels = graphs.features not in ("one-hot degree", "constant")
    architecture = model_preset(model, preset, node_labels=has_labels)
    if norm_place is not None:
        architecture = replace(architecture, norm_place=norm_place)
    if residual == "none":
        architecture = replace(architecture, residual=False)
    elif residual is not None:
        architecture = replace(architecture, residual=True, residual_place=residual)
    defaults = training_defaults(preset)
    return CompareSettings(
        dataset=dataset,
        norms=tuple(lookup(name.strip()).name for name in names if name.strip()),
        model=model,
        preset=preset,
        architecture=architecture.to_dict(),
        folds=folds,
        split_seed=defaults.split_seed,
        seed=seed,
        epochs=defaults.epochs if epochs is None else epochs,
        batch_size=defaults.batch_size if batch_size is None else batch_size,
        learning_rate=defaults.learning_rate if learning_rate is None else learning_rate,
        schedule=defaults.schedule,
        weight_decay=defaults.weight_decay if weight_decay is None else weight_decay,
        device=device,
    )


def trials(settings: CompareSettings, graphs: GraphSet) -> list[TrialConfig]:
    """List the trials of a comparison, fold by fold.

    All norms of fold 0 come first, then all of fold 1, and so on: whenever a run is interrupted,
    the norms have been tried on the same folds but for the last. Fold f of seed s trains with
    seed `s · folds + f`, so that no two folds, and no two values of `seed`, share an
    initialization.

    Raises:
        ValueError: The data cannot be split into so many folds.
    """
    from graphnorms.data import stratified_folds
    from graphnorms.training import TrialConfig

    # Split here only to learn, before anything is trained, that it can be done.
    stratified_folds(graphs.y, settings.folds, settings.split_seed)
    code = code_versions()
    return [
        TrialConfig(
            dataset=settings.dataset,
            fingerprint=graphs.fingerprint,
            model=settings.architecture,
            norm=norm,
            fold=fold,
            folds=settings.folds,
            split_seed=settings.split_seed,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            schedule=settings.schedule,
            weight_decay=settings.weight_decay,
            seed=settings.seed * settings.folds + fold,
            device=settings.device,
            dtype=settings.dtype,
            **code,
        )
        for fold in range(settings.folds)
        for norm in settings.norms
    ]


def code_versions() -> dict[str, str]:
    """Return the versions of the code that a trial depends on, as `TrialConfig` names them."""
    import torch

    from graphnorms.version import __version__

    return {"graphnorms_version": __version__, "torch_version": torch.__version__}


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
