"""What defines a trial: frozen, JSON-able, hashed by its content; and what presets say of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from graphnorms.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that a trial's outcome depends on, measured times aside.

    Two trials with equal configs give equal records on one machine. The hash of the config
    is the trial's `key`.

    Args:
        dataset: Name or path of the data set, as the user gave it.
        fingerprint: Content hash of the data.
        model: Keyword arguments of the model, resolved from a preset (see
            `graphnorms.models.ModelConfig`), as a plain dict; of a model of the user's own the name
            of its factory and the hash of its source, see `graphnorms.models.OwnModelConfig`.
        norm: The normalization as text: its catalogue name, arguments behind a colon; or the name
            of one of the user's own, see `graphnorms.layers.own_norm.OwnNorm`.
        split: Which items are trained on, which choose and which test, see
            `graphnorms.data.SplitConfig`; as a plain dict.
        stage: `"select"`: one learning rate is tried on validation data; `"final"`: the chosen
            one is trained anew and tested; `"paper"`: no test data, see the protocol.
        run: Number of the seed within the stage. Trials of one stage, split and run are paired.
        metric: Name of the score, see `graphnorms.training.METRICS`; of several numbers `"mae"`
            and `"rmse"` are what `"std_mae"` and `"std_rmse"` are.
        epochs: Passes over the training graphs.
        batch_size: Graphs in a minibatch; a last one of a single graph joins the one before it,
            and one graph is always trained as a whole.
        learning_rate: Adam's step size in the first epoch.
        schedule: `"linear"`: falls linearly to 0 over the epochs; `"constant"`.
        weight_decay: Adam's L2 penalty.
        seed: Seeds the initial weights and the dropout masks; the batch order as well, unless
            `order_seed` does.
        device, dtype: Where and in which precision the model is trained.
        graphnorms_version, torch_version: The code that ran.
        order_seed: Seeds the batch order, so that trials of different seeds can have the same
            batches. None: the seed does.
        norm_source: The hash of the source of a norm of the user's own; None for the catalogue's.
    """

    dataset: str
    fingerprint: str
    model: dict[str, Any]
    norm: str
    split: dict[str, Any]
    stage: str
    run: int
    metric: str
    epochs: int
    batch_size: int
    learning_rate: float
    schedule: str
    weight_decay: float
    seed: int
    device: str
    dtype: str
    graphnorms_version: str
    torch_version: str
    order_seed: int | None = None
    norm_source: str | None = None

    @property
    def scores_training(self) -> bool:
        """Whether the training items are scored after every epoch: not to choose a rate.

        It is a forward pass over all of them in eval mode, about a third of what training costs,
        and only trials that are reported have a use for it.
        """
        return self.stage != "select"

    @property
    def seed_of_order(self) -> int:
        """What seeds the batch order."""
        return self.seed if self.order_seed is None else self.order_seed

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data, without `order_seed` or `norm_source` of None.

        So trials keep the keys that they had before there were these.
        """
        data = asdict(self)
        for name in ("order_seed", "norm_source"):
            if data[name] is None:
                del data[name]
        return data

    @cached_property
    def key(self) -> str:
        """The content hash: 16 hexadecimal digits."""
        return content_hash(self.to_dict())


def content_hash(data: Any) -> str:
    """Hash JSON-able data, independent of the order of its keys: 16 hexadecimal digits."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
