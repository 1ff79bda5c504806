"""What a LightningModule monitors: the value that is its score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

from graphnorms.errors import one_line
from graphnorms.training.lightning_trial import first_loader, made_by, quiet
from graphnorms.training.metrics import logged_metric, part_of
from graphnorms.training.own_training import TrialNorm, TrialSplit
from graphnorms.training.trainer import Trainer
from graphnorms.training.trial_start import TrialStart
from graphnorms.user_code import no_exit

_HIGH: Final = ("acc", "auc", "auroc", "f1", "r2", "precision", "recall", "score", "ap", "mcc")
_LOW: Final = ("loss", "mae", "mse", "rmse", "error", "nll")


def monitored(trainer: Trainer, split: TrialSplit, asked: str | None) -> str:
    """Return the value that a LightningModule monitors, and its direction: `"val_mae:min"`.

    That is what is asked for; else what a scheduler in `configure_optimizers`, or a callback in
    `configure_callbacks`, monitors; else the only value whose name says validation that it logs
    there beside the loss, or the loss.

    Args:
        trainer: Makes the module.
        split: Data to try it on.
        asked: The name of a logged value, with or without its direction.

    Raises:
        ValueError: There is no such value, or several.
    """
    name = trainer.name
    if asked is not None and logged_metric(asked) is not None:
        return asked
    start = TrialStart()
    given = {"norm": TrialNorm("none", 0, start), "split": split, "seed": 0, "batch_size": 4}
    defaults = {"learning_rate": 0.001, "weight_decay": 0.0, "layers": 2, "hidden": 8}
    given |= {**defaults, "dropout": 0.0, "epochs": 1, "device": "cpu"}
    with no_exit(name), torch.random.fork_rng(devices=[]), quiet():
        try:
            module, data = made_by(trainer, given)
        except Exception as error:  # user code may raise anything
            text = one_line(error).removeprefix("ValueError: ")
            raise ValueError(text if name in text else f"{name} raised {text}") from error
        found = [] if asked else [*_in_optimizers(module), *_in_callbacks(module)]
        logged = _tried(module, data)
    if found:
        value, mode = found[0]
    else:
        value, mode = _choice(name, logged, asked), None
    mode = mode or _direction(value)
    if mode is None:
        raise ValueError(
            f"{name} logs {value}, and whether more of it is better is not known; choose "
            f"--metric {value}:max or {value}:min"
        )
    return f"{value}:{mode}"


def _choice(name: str, logged: Sequence[str], asked: str | None) -> str:
    """Return the value to monitor among those that are logged in validation."""
    if asked is not None:
        for value in (asked, f"val_{asked}"):
            if value in logged:
                return value
        there = f"; it logs {', '.join(logged)}" if logged else "; name it as NAME:max or NAME:min"
        raise ValueError(f"{name} logs no {asked!r} in validation_step{there}")
    values = [value for value in logged if part_of(value, "") != value]
    others = [value for value in values if "loss" not in value]
    if len(others) > 1:
        raise ValueError(
            f"{name} monitors nothing and logs {', '.join(others)}; choose one with --metric"
        )
    if not values:
        raise ValueError(
            f"{name} monitors nothing and logs nothing called val_… in validation_step; name what "
            "it logs: --metric NAME:max or NAME:min"
        )
    return (others or values)[0]


def _in_optimizers(module: Any) -> list[tuple[str, str | None]]:
    """Return what schedulers monitor, and their modes."""
    try:
        made = module.configure_optimizers()
    except Exception:  # it may need its Trainer
        return []
    parts = made if isinstance(made, tuple | list) else [made]
    found = []
    for part in [item for each in parts for item in (each if isinstance(each, list) else [each])]:
        if not isinstance(part, Mapping):
            continue
        scheduler = part.get("lr_scheduler", part)
        about = scheduler if isinstance(scheduler, Mapping) else part
        if monitor := about.get("monitor", part.get("monitor")):
            judged = about.get("scheduler", scheduler)
            found.append((monitor, getattr(judged, "mode", None)))
    return found


def _in_callbacks(module: Any) -> list[tuple[str, str | None]]:
    """Return what callbacks monitor, and their modes."""
    made = module.configure_callbacks()
    callbacks = made if isinstance(made, Sequence) else [made]
    return [
        (callback.monitor, getattr(callback, "mode", None))
        for callback in callbacks
        if getattr(callback, "monitor", None)
    ]


def _tried(module: Any, data: Any) -> list[str]:
    """Return the names that are logged by a validation step; none if it needs its Trainer."""
    names: dict[str, None] = {}
    module.log = lambda name, *args, **kwargs: names.update({name: None})
    module.log_dict = lambda values, *args, **kwargs: names.update(dict.fromkeys(values))
    module.eval()
    try:
        with torch.no_grad():
            module.validation_step(next(iter(first_loader(data, "val"))), 0)
            module.on_validation_epoch_end()
    except Exception:  # what it logged before is known
        pass
    return list(names)


def _direction(value: str) -> str | None:
    words = value.lower().replace("/", "_").replace(".", "_").split("_")
    if any(word.startswith(_LOW) for word in words):
        return "min"
    return "max" if any(word.startswith(_HIGH) for word in words) else None
