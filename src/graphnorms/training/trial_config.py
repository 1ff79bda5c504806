"""The config of a trial (frozen, JSON-able, hashed by its content), and training presets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Final

from graphnorms.errors import unknown_name

OPTIMIZERS: Final = ("adam", "adamw", "sgd")
SCHEDULES: Final = ("linear", "constant", "cosine")

LAB_TRAINS: Final = (
    "preset",
    "norm_place",
    "residual",
    "edge_norm",
    "qk_norm",
    "heads",
    "layers",
    "hidden",
    "dropout",
    "epochs",
    "optimizer",
    "learning_rate",
    "schedule",
    "warmup",
    "weight_decay",
    "batch_size",
    "clip",
    "force_weight",
    "patience",
    "num_neighbors",
)
"""Options of the lab's models and training, of which user code that trains takes some."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Everything that the outcome of a trial depends on, except for measured times.

    Trials with equal configs give equal records on one machine. The hash of the config is the `key`
    of the trial.

    Args:
        dataset: Name or path of the data set as given by the user.
        fingerprint: Content hash of the data.
        model: Keyword arguments of the model, resolved from a preset (see
            `graphnorms.models.ModelConfig`), as a plain dict; for a user-defined model the name of
            its factory and the hash of its source, see `graphnorms.models.OwnModelConfig`. For user
            code that trains: its name (`"trial"`), the hash of its source, what it is `"by"`, the
            options that it `"takes"`, and the values of its own `"arguments"` that are varied.
        norm: The normalization as text: its catalogue name, optionally with arguments after a
            colon; or the name of a user-defined one, see `graphnorms.layers.own_norm.OwnNorm`.
        split: The `graphnorms.data.SplitConfig` as a plain dict.
        stage: `"select"`: try one learning rate on validation data; `"final"`: train with the
            chosen one and test; `"paper"`: no test data, see the protocol.
        run: Number of the run within the stage. Trials of the same stage, split and run are paired.
        metric: Name of the score, see `graphnorms.training.METRICS`; for several regression targets
            `"mae"` and `"rmse"` mean `"std_mae"` and `"std_rmse"`.
        epochs: Number of passes over the training graphs.
        batch_size: Graphs per minibatch; a last minibatch of a single graph is merged into the one
            before, and a data set of one graph is trained as a whole without `num_neighbors`.
        learning_rate: The step size after the warm-up.
        schedule: `"linear"` or `"cosine"` (decay to 0 over the epochs after the warm-up), or
            `"constant"`; see `graphnorms.training.optimizer.rate_at`.
        weight_decay: The L2 penalty, or AdamW's decay.
        seed: Seed of the initial weights, the dropout masks and, without `order_seed`, the batch
            order.
        device, dtype: Device and precision of the training.
        graphnorms_version, torch_version: Versions of the code.
        order_seed: Seed of the batch order, so that trials with different seeds can have the same
            batches; None for `seed`.
        norm_source: Hash of the source of a user-defined norm; None for those of the catalogue.
        varied: The options by which treatments with this norm differ, and their values here, such
            as `{"layers": 4}`; other fields follow from them. None: they differ by the norm alone.
        optimizer: See `graphnorms.training.optimizer.make_optimizer`.
        warmup: Epochs in which the learning rate rises from 0.
        clip: Largest norm of the gradient of all parameters; a longer one is shortened. None: no
            limit.
        patience: Epochs without a better validation score after which the trial ends. None: it
            trains all epochs.
        num_neighbors: In training on one large graph, the most neighbours that are drawn of a node,
            for each layer or one for all, -1 for all neighbours; a minibatch is then `batch_size`
            nodes and these. None: every step has the whole graph.
        searched: The values that a search proposed for this trial, or chose by others, by option;
            other fields follow from them. None: no option is searched.
        proposal: Number of the proposal in its search; None of other trials.
        proposed_after: Hash of the outcomes that it was proposed after, see
            `graphnorms.lab.search`; None where it needed none.
        force_weight: The weight of forces in the loss, see
            `graphnorms.training.force_objective.ForceObjective`; None for its default.
        intervention: What is changed to test the reason for a difference, see
            `graphnorms.training.interventions`; None in the trials of a comparison.
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
    varied: dict[str, Any] | None = None
    optimizer: str = "adam"
    warmup: int = 0
    clip: float | None = None
    patience: int | None = None
    num_neighbors: Sequence[int] | None = None
    searched: dict[str, Any] | None = None
    proposal: int | None = None
    proposed_after: str | None = None
    intervention: str | None = None
    force_weight: float | None = None

    @property
    def treatment(self) -> str:
        """The name of what is trained, see `treatment_name`."""
        return treatment_name(self.norm, self.varied or {})

    @property
    def scores_training(self) -> bool:
        """Whether to score the training items after every epoch; not in trials that choose a rate.

        This takes a forward pass over all of them, about a third of the training time, and only
        reported trials use it.
        """
        return self.stage != "select"

    @property
    def is_measured(self) -> bool:
        """Whether the model is measured: in the first reported trial of a fold or seed."""
        return self.stage != "select" and self.run == 0 and self.intervention is None

    @property
    def seed_of_order(self) -> int:
        """The seed of the batch order."""
        return self.seed if self.order_seed is None else self.order_seed

    def to_dict(self) -> dict[str, Any]:
        """Return the config as JSON-able data, without the later fields at their defaults.

        So trials keep the keys that they had before these fields existed.
        """
        data = asdict(self)
        for each in fields(self):
            if each.name in _LATER and data[each.name] == each.default:
                del data[each.name]
        if is_trial(self.model):  # what user code does not take has no influence
            for name in _TAKEN - {*self.model["takes"]}:
                data.pop(name, None)
        return data

    @cached_property
    def key(self) -> str:
        """The content hash: 16 hexadecimal digits."""
        return content_hash(self.to_dict())


_LATER: Final = (
    *("order_seed", "norm_source", "varied"),
    *("optimizer", "warmup", "clip", "patience", "num_neighbors"),
    *("searched", "proposal", "proposed_after", "intervention", "force_weight"),
)


_TAKEN: Final = {"epochs", "batch_size", "learning_rate", "schedule", "weight_decay", "optimizer"}


def is_trial(model: Mapping[str, Any]) -> bool:
    """Whether the `model` of a config is user code that trains."""
    return "trial" in model


def treatment_name(norm: str, varied: Mapping[str, Any]) -> str:
    """Return the name of a treatment: `graph`, or with the values of options `graph layers=4`."""
    words = (norm, *(f"{name}={_text(value)}" for name, value in varied.items()))
    return " ".join(words)


def treatment_of(config: Mapping[str, Any]) -> str:
    """Return the name of the treatment of a trial, given the config in its record."""
    return treatment_name(config["norm"], config.get("varied") or {})


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def content_hash(data: Any) -> str:
    """Hash JSON-able data, independent of the order of its keys, to 16 hexadecimal digits."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class TrainingDefaults:
    """The training settings of a preset; see `TrialConfig`."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    schedule: str
    split_seed: int


# The GraphNorm authors: Adam, 0.01 decaying linearly to 0, 128 graphs per batch, 400 epochs.
_PAPER: Final = TrainingDefaults(
    epochs=400,
    batch_size=128,
    learning_rate=0.01,
    weight_decay=0.0,
    schedule="linear",
    split_seed=9,
)
_DEFAULTS: Final = {
    "default": TrainingDefaults(
        epochs=100,
        batch_size=32,
        learning_rate=0.01,
        weight_decay=0.0,
        schedule="linear",
        split_seed=0,
    ),
    "graphnorm-paper": _PAPER,
    "graphnorm-table": _PAPER,
}


def training_defaults(preset: str) -> TrainingDefaults:
    """Return the training settings of a preset of `graphnorms.models.preset`.

    Raises:
        ValueError: There is no such preset.
    """
    if preset not in _DEFAULTS:
        raise unknown_name("preset", preset, _DEFAULTS)
    return _DEFAULTS[preset]
