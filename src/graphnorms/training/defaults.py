"""How the presets are trained unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from graphnorms.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class TrainingDefaults:
    """The training settings that come with a preset; see `TrialConfig` for their meaning."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    schedule: str
    split_seed: int


_DEFAULTS: Final = {
    "default": TrainingDefaults(
        epochs=100, batch_size=32, learning_rate=0.01, weight_decay=0.0, schedule="linear",
        split_seed=0,
    ),
    # The authors' protocol: Adam 0.01 falling linearly to 0, batches of 128 graphs, 400 epochs.
    "graphnorm-paper": TrainingDefaults(
        epochs=400, batch_size=128, learning_rate=0.01, weight_decay=0.0, schedule="linear",
        split_seed=9,
    ),
}  # fmt: skip


def training_defaults(preset: str) -> TrainingDefaults:
    """Return the training settings of a preset of `graphnorms.models.preset`.

    Raises:
        ValueError: There is no such preset.
    """
    if preset not in _DEFAULTS:
        raise unknown_name("preset", preset, _DEFAULTS)
    return _DEFAULTS[preset]
