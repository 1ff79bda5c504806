"""Trials of a LightningModule, trained by a Trainer of Lightning.

The module has its own steps and optimizers; the lab gives it the norm, the data and the seed. The
function or class that makes the module gets the arguments that it names:

| argument | value |
|---|---|
| `norm`, `norm_name` | `TrialNorm`, which makes the layers; its name |
| `split`, `seed` | `TrialSplit`, the data and their parts; the seed of the trial |
| `in_channels`, `out_channels` | features of a node; results per item |
| `edge_channels`, `edge_dim` | features of an edge; 0, or None as in PyG, if there are none |
| `task`, `level` | the kind of the task; `"graph"` or `"node"` |
| `learning_rate`, `weight_decay`, `layers`, `hidden`, `dropout`, `device` | the options |

If it names no norm, the norms of the module that are applied to nodes are replaced. It returns the
module, or the module and its data: a LightningDataModule, or loaders for training, validation and
test. Without data, batches of PyG's `Data` of the set are loaded.

The epoch with the best monitored value counts, and the test score is the same value logged for the
test part by `test_step` with the weights of that epoch.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, get_args, get_type_hints

import torch
from torch import Tensor, nn

from graphnorms.dropin import replace_norms
from graphnorms.dropin.call_once import call_once
from graphnorms.dropin.result import Replacement
from graphnorms.errors import one_line
from graphnorms.models import ModelFactory, derive_seed
from graphnorms.training.metrics import logged_metric, part_of
from graphnorms.training.own_training import Trainer, TrialNorm, TrialSplit
from graphnorms.training.trial_config import TrialConfig
from graphnorms.training.trial_start import TrialStart
from graphnorms.user_code import no_exit

_PACKAGES: Final = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}
_HIGH: Final = ("acc", "auc", "auroc", "f1", "r2", "precision", "recall", "score", "ap", "mcc")
_LOW: Final = ("loss", "mae", "mse", "rmse", "error", "nll")
_LOGGERS: Final = ("lightning.pytorch", "pytorch_lightning", "lightning.fabric")


def makes_lightning(function: Callable[..., Any]) -> bool:
    """Whether a class is a LightningModule, or a function is annotated to return one."""
    while hasattr(function, "func"):  # unwrap functools.partial
        function = function.func
    if inspect.isclass(function):
        return package_of(function) is not None
    try:
        returned = get_type_hints(function).get("return")
    except Exception:  # an annotation that cannot be evaluated
        return False
    parts = (returned, *get_args(returned)[:1])  # with its data in a tuple
    return any(inspect.isclass(part) and package_of(part) is not None for part in parts)


def package_of(kind: type) -> str | None:
    """Return the package of a LightningModule, to be imported; None if it is none."""
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        if base.__name__ == "LightningModule" and root in _PACKAGES:
            return _PACKAGES[root]
    return None


def trainer_for(factory: ModelFactory) -> Trainer:
    """Return what trains the LightningModule of a factory.

    Raises:
        ValueError: It has an argument that nobody gives.
    """
    return Trainer.of(factory.function if factory.in_memory else factory.name, by="lightning")


def train_lightning(
    trainer: Trainer, config: TrialConfig, given: Mapping[str, Any], start: TrialStart
) -> dict[str, float]:
    """Train a LightningModule, and return its scores.

    Args:
        trainer: Makes the module.
        config: The trial; its metric is the monitored value, `"val_mae:min"`.
        given: What a training function is given.
        start: Is shown the module.

    Raises:
        ValueError: The function makes no LightningModule, or does not log the monitored value.
    """
    module, data = _made(trainer, given)
    start.see(module)
    metric = logged_metric(config.metric)
    if metric is None:
        raise ValueError(f"metric is {config.metric!r}, expected a logged value, as in val_mae:min")
    better = metric.better
    monitor = config.metric.rpartition(":")[0]
    lightning = importlib.import_module(package_of(type(module)) or "")
    best: dict[str, Any] = {}

    class Watch(lightning.Callback):  # type: ignore[misc, name-defined]
        def on_train_epoch_end(self, trainer: Any, module: nn.Module) -> None:
            logged = _numbers(trainer.callback_metrics)
            score = _logged(logged, monitor, name)
            if not best or better(score, best["score"]):
                state = module.state_dict()
                best.update(score=score, epoch=trainer.current_epoch + 1)
                best["state"] = {key: value.clone() for key, value in state.items()}
            given["report"](trainer.current_epoch + 1, val_score=score, **logged)

    name = trainer.name
    with _quiet():
        environment = importlib.import_module(f"{lightning.__name__}.plugins.environments")
        device = torch.device(config.device)
        fit = lightning.Trainer(
            max_epochs=config.epochs,
            accelerator="cpu" if device.type == "cpu" else "gpu",
            devices=1 if device.index is None else [device.index],
            callbacks=[Watch()],
            plugins=[environment.LightningEnvironment()],  # Slurm's would wait for other tasks
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        fit.fit(module, **_loaded(data, "fit"))
        if not best or not math.isfinite(best["score"]):
            raise ValueError(f"{name}: {monitor} was never finite")
        scores = {"val": best["score"], "epoch": best["epoch"]}
        if config.stage == "final":
            module.load_state_dict(best["state"])
            fit.test(module, verbose=False, **_loaded(data, "test"))
            tested = _numbers(fit.callback_metrics)
            scores["test"] = _logged(tested, part_of(monitor, "test"), name, of="test_step")
    return scores


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
    with no_exit(name), torch.random.fork_rng(devices=[]), _quiet():
        try:
            module, data = _made(trainer, given)
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


def _made(trainer: Trainer, given: Mapping[str, Any]) -> tuple[nn.Module, Any]:
    """Make the module, with its norm, and its data."""
    split: TrialSplit = given["split"]
    graphs, norm = split.graphs, given["norm"]
    offered = {
        **given,
        "norm_name": norm.name,
        "in_channels": graphs.num_features,
        "out_channels": graphs.num_outputs,
        "edge_channels": graphs.num_edge_features,
        "edge_dim": graphs.num_edge_features or None,
        "task": graphs.task.kind,
        "level": graphs.task.level,
    }
    asked = trainer.asked(offered)
    torch.manual_seed(given["seed"])
    result = trainer.function(**asked)
    module, data = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(module, nn.Module) or package_of(type(module)) is None:
        raise ValueError(
            f"{trainer.name} returns something of type {type(module).__name__}, expected a "
            "LightningModule, or one and its data"
        )
    if data is None:
        data = _loaders(split, given.get("batch_size", 32), given["seed"])
    if {"norm", "norm_name"}.isdisjoint(asked):
        _replace_norms(trainer.name, module, norm, next(iter(_first_loader(data))))
    return module, data


def _replace_norms(name: str, module: nn.Module, norm: TrialNorm, batch: Any) -> None:
    """Replace the norms of a module that are applied to nodes, as in models that the lab trains.

    Raises:
        ValueError: There is none.
    """
    calls = call_once(module, _example(module, batch), Replacement(module).norms)
    of_nodes = {
        place
        for place, found in calls.items()
        if all(call.shape[0] in call.nodes or not call.nodes for call in found)
    }
    if not of_nodes:
        raise ValueError(
            f"the model of {name} has no norm that is applied to nodes; use norms in it, or take "
            "norm as an argument"
        )
    replace_norms(
        module,
        to=norm,
        where=lambda _, old: id(old) in of_nodes,
        keep_parameters=False,
    )


def _loaders(split: TrialSplit, batch_size: int, seed: int) -> tuple[Any, Any, Any]:
    """Return loaders of PyG's batches of the three parts."""
    from torch_geometric.loader import DataLoader

    if split.graphs.task.level == "node":
        masked = [_with_masks(split)]
        return DataLoader(masked), DataLoader(masked), DataLoader(masked)
    order = torch.Generator().manual_seed(derive_seed(seed, "order"))
    train, validation, test = map(split.take, ("train", "validation", "test"))
    return (
        DataLoader(train, batch_size=batch_size, shuffle=True, generator=order),
        DataLoader(validation, batch_size=batch_size),
        DataLoader(test, batch_size=batch_size),
    )


def _with_masks(split: TrialSplit) -> Any:
    if len(split.data) > 1:
        raise ValueError("nodes of several graphs are split; load them by a LightningDataModule")
    data = split.data[0].clone()
    for name, ids in (("train", split.train), ("val", split.validation), ("test", split.test)):
        mask = torch.zeros(data.num_nodes, dtype=torch.bool)
        mask[ids] = True
        data[f"{name}_mask"] = mask
    return data


def _loaded(data: Any, stage: str) -> dict[str, Any]:
    """Return the arguments of `Trainer.fit` or `Trainer.test` for some data."""
    if not isinstance(data, tuple | list):
        return {"datamodule": data}
    if len(data) != 3:
        raise ValueError(f"{len(data)} loaders, expected one for training, validation and test")
    if stage == "fit":
        return {"train_dataloaders": data[0], "val_dataloaders": data[1]}
    return {"dataloaders": data[2]}


def _first_loader(data: Any, part: str = "train") -> Any:
    if isinstance(data, tuple | list):
        return data[("train", "val", "test").index(part)]
    data.prepare_data()
    data.setup("fit")
    return getattr(data, f"{part}_dataloader")()


def _example(module: nn.Module, batch: Any) -> Any:
    """Return arguments of a module's `forward` out of a batch."""
    parameters = inspect.signature(module.forward).parameters.values()
    required = [each.name for each in parameters if each.default is each.empty]
    if len(required) > 1 and all(hasattr(batch, name) for name in required):
        return {name: getattr(batch, name) for name in required}
    return (batch,)


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
            made_by = about.get("scheduler", scheduler)
            found.append((monitor, getattr(made_by, "mode", None)))
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
            module.validation_step(next(iter(_first_loader(data, "val"))), 0)
            module.on_validation_epoch_end()
    except Exception:  # what it logged before is known
        pass
    return list(names)


def _direction(value: str) -> str | None:
    words = value.lower().replace("/", "_").replace(".", "_").split("_")
    if any(word.startswith(_LOW) for word in words):
        return "min"
    return "max" if any(word.startswith(_HIGH) for word in words) else None


def _numbers(logged: Mapping[str, Any]) -> dict[str, float]:
    return {
        str(name): float(value)
        for name, value in logged.items()
        if not isinstance(value, Tensor) or value.numel() == 1
    }


def _logged(found: Mapping[str, float], wanted: str, name: str, of: str = "") -> float:
    for key in (wanted, f"{wanted}_epoch"):
        if key in found:
            return found[key]
    where = f" in {of}" if of else ""
    raise ValueError(
        f"{name} logs no {wanted}{where}; it logs {', '.join(found) or 'nothing'}; "
        + ("log it there as the validation value is" if of else "choose one with --metric")
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about its devices, loaders and loggers."""
    loaded = [name for name in _LOGGERS if name.partition(".")[0] in sys.modules]
    loggers = list(map(logging.getLogger, loaded))
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
