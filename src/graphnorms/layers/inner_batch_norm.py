"""The BatchNorm inside a layer, and helpers for modules inside layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from graphnorms.layers.running_statistics import RunningStatistics, reset_averages, running_dtype


class InnerBatchNorm(RunningStatistics, nn.BatchNorm1d):
    """Holds the parameters and running averages of a layer under PyG's names.

    The layer computes with them itself. It calls this module, passing its computation, only if the
    call is observable, e.g. by a hook.
    """

    def __init__(
        self,
        channels: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        *,
        bias: bool = True,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(
            channels, eps, momentum, affine, track_running_stats, device=device, dtype=dtype
        )
        if not bias:  # torch has this argument from 2.12 on
            self.register_parameter("bias", None)
        for name in ("running_mean", "running_var"):
            if (value := getattr(self, name)) is not None:
                setattr(self, name, value.to(running_dtype(dtype)))

    def reset_parameters(self) -> None:
        """Set `weight` to 1 and `bias` to 0, and reset the running statistics."""
        self.reset_running_stats()
        for parameter, value in ((self.weight, 1.0), (self.bias, 0.0)):
            if parameter is not None:
                nn.init.constant_(parameter, value)

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the running variance to 1 and the counter to 0."""
        reset_averages(self)  # unlike torch's also if they are no longer tracked

    def forward(self, x: Tensor, *, compute: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Run the computation of the layer; called directly, behave like torch's BatchNorm."""
        return super().forward(x) if compute is None else compute(x)

    @classmethod
    def of_synchronized(cls, module: nn.SyncBatchNorm) -> InnerBatchNorm:
        """Take over the parameters, averages and hooks of a `SyncBatchNorm`."""
        inner = cls.__new__(cls)
        inner.__dict__.update(vars(module))
        del inner.__dict__["process_group"]  # an attribute of the layer
        return inner


def is_untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether skipping the call of a module has no effect: no hooks, no other class."""
    return type(module) is kind and is_called_plainly(module) and not _has_any_global_hook()


def is_called_plainly(module: nn.Module) -> bool:
    """Whether a call of a module runs nothing but its `forward`, global hooks aside."""
    return not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def reset(module: nn.Module, name: str) -> None:
    """Call `reset_…` of a module if it has such a method."""
    getattr(module, name, lambda: None)()


def dtype_of(module: nn.Module, x: Tensor) -> torch.dtype:
    """Return the dtype of the parameters of a module, or that of x if it has none."""
    return next(module.parameters(), x).dtype


def of_inner(inner: str, name: str) -> Any:
    """Make a property that reads and writes an attribute of an inner module."""

    def get(self: nn.Module) -> Any:
        return getattr(getattr(self, inner), name)

    def put(self: nn.Module, value: Any) -> None:
        setattr(getattr(self, inner), name, value)

    return property(get, put, doc=f"The `{name}` of `{inner}`.")
