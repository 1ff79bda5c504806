"""The running statistics of a whole model, computed anew."""

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
    """Replace the running statistics of all norms by their plain averages over some batches.

    What `torch.optim.swa_utils.update_bn` does for torch's BatchNorm: after weights were averaged
    or exchanged, the averages of the old ones are no longer those of the model. It takes torch's
    BatchNorm and InstanceNorm, PyG's norms, and all of ours; `update_bn` leaves InstanceNorm,
    HeteroBatchNorm and PowerNorm as they are.

    Every batch goes through the model once, in training mode without gradients, and counts
    alike. Norms that keep no running statistics stay as they are; where there is no other, no
    batch is taken. Of `PowerNorm` the running moment is computed anew, while the running gradient
    and the counter of its warm-up stay. Training flags and momenta are put back in the end.

    Args:
        model: The model.
        loader: The batches: PyG's `Data`, tensors, or tuples and lists.
        call: What is done with a batch, as `lambda data: model(data.x, data.edge_index)`; `None`
            for `model(batch)`, of a tuple or list `model(batch[0])`.
        device: Where a batch, or every tensor of a tuple or list, is moved to before.

    Raises:
        ValueError: The loader has no batch; nothing is changed then.
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
    """Reset the statistics of a norm, and let it average until `back` is left."""

    def change(name: str, value: object) -> None:
        back.callback(setattr, norm, name, getattr(norm, name))
        setattr(norm, name, value)

    if isinstance(norm, PowerNorm):
        # Its warm-up is the plain average; the moving one beside it is left out.
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
    # torch's InstanceNorm takes None for 0, and those of PyG cannot compute with it.
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
