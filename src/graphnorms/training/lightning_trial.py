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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, get_args, get_type_hints

import torch
from torch import Tensor, nn

from graphnorms.dropin import replace_norms
from graphnorms.dropin.call_once import call_once
from graphnorms.dropin.result import Replacement
from graphnorms.models import ModelFactory, derive_seed
from graphnorms.training.metrics import logged_metric, part_of
from graphnorms.training.own_training import TrialNorm, TrialSplit
from graphnorms.training.trainer import Trainer
from graphnorms.training.trial_config import TrialConfig
from graphnorms.training.trial_start import TrialStart

_PACKAGES: Final = {"lightning": "lightning.pytorch", "pytorch_lightning": "pytorch_lightning"}
_TAKEN: Final = {"step", "model", "val_score"}
"""Names that a report has for something else."""

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
    module, data = made_by(trainer, given)
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
            if not best or math.isnan(best["score"]) or better(score, best["score"]):
                state = module.state_dict()
                best.update(score=score, epoch=trainer.current_epoch + 1)
                best["state"] = {key: value.clone() for key, value in state.items()}
            others = {key: value for key, value in logged.items() if key not in _TAKEN}
            given["report"](trainer.current_epoch + 1, val_score=score, **others)

    name = trainer.name
    with quiet():
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


def made_by(trainer: Trainer, given: Mapping[str, Any]) -> tuple[nn.Module, Any]:
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
        _replace_norms(trainer.name, module, norm, next(iter(first_loader(data))))
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


def first_loader(data: Any, part: str = "train") -> Any:
    """Return the loader of a part, out of loaders or a LightningDataModule."""
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
def quiet() -> Iterator[None]:
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
