"""Recomputes the running statistics of a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from graphnorms.layers.base import Norm
from graphnorms.layers.power_norm import PowerNorm


def recalibrate(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    call: Callable[[Any], object] | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Replace the running statistics of all norms by their cumulative averages over some batches.

    Use it after weights were averaged or replaced, like `torch.optim.swa_utils.update_bn` for
    torch's BatchNorm. It handles torch's BatchNorm and InstanceNorm, PyG's norms, and all of ours;
    `update_bn` skips InstanceNorm, HeteroBatchNorm and PowerNorm.

    Every batch passes through the model once, in training mode without gradients, with equal
    weight. Norms without running statistics do not change; if there are no others, the loader is
    not used. For `PowerNorm` the running moment is recomputed; the running gradient and the warm-up
    counter are kept. Training flags and momenta are restored at the end.

    Args:
        model: The model.
        loader: The batches: PyG's `Data`, tensors, tuples or lists.
        call: Runs the model on a batch, e.g. `lambda data: model(data.x, data.edge_index)`; `None`
            means `model(batch)`, for a tuple or list `model(batch[0])`.
        device: Device to move each batch to.

    Raises:
        ValueError: The loader has no batch; the model is unchanged.
    """
    norms = [module for module in model.modules() if _keeps_statistics(module)]
    if not norms:
        return
    with ExitStack() as back, torch.no_grad():
        for module in model.modules():
            back.callback(setattr, module, "training", module.training)
        model.train()
        number = -1
        for number, batch in enumerate(loader):
            if not number:
                for norm in norms:
                    _begin(norm, back)
            here = batch if device is None else _moved(batch, device)
            if call is not None:
                call(here)
            else:
                model(here[0] if isinstance(here, list | tuple) else here)
    if number < 0:
        raise ValueError("the loader has no batch, expected one or more")


def _keeps_statistics(module: nn.Module) -> bool:
    if isinstance(module, PowerNorm):
        return True
    return (
        getattr(module, "running_mean", None) is not None
        and getattr(module, "track_running_stats", False)
        and hasattr(module, "reset_running_stats")
    )


def _begin(norm: Any, back: ExitStack) -> None:
    """Reset the statistics of a norm, and make it average until `back` exits."""

    def change(name: str, value: object) -> None:
        back.callback(setattr, norm, name, getattr(norm, name))
        setattr(norm, name, value)

    if isinstance(norm, PowerNorm):
        # Its warm-up keeps the cumulative average; a decay of 1 turns the moving one off.
        change("warmup", sys.maxsize)
        change("forward_decay", 1.0)
        back.callback(norm.num_batches_tracked.copy_, norm.num_batches_tracked.clone())
        norm.num_batches_tracked.zero_()
        norm.running_moment.fill_(1)
        return
    norm.reset_running_stats()
    if isinstance(norm, Norm | nn.modules.batchnorm._BatchNorm):
        change("momentum", None)
        return
    # torch's InstanceNorm treats None as 0, and PyG's norms cannot compute with it.
    change("momentum", norm.momentum)
    calls = 0

    def weigh(*_: object) -> None:
        nonlocal calls
        calls += 1
        norm.momentum = 1 / calls

    back.callback(norm.register_forward_pre_hook(weigh).remove)


def _moved(batch: Any, device: torch.device | str) -> Any:
    if isinstance(batch, list | tuple):
        return [_moved(part, device) for part in batch]
    return batch.to(device) if hasattr(batch, "to") else batch
