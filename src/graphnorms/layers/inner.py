"""The modules of torch that a norm holds, and when they are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from graphnorms.layers.running import RunningStatistics, reset_averages, running_dtype


class InnerBatchNorm(RunningStatistics, nn.BatchNorm1d):
    """The parameters and averages of a norm that has them under PyG's names.

    The norm computes with them. It calls this module with that computation wherever somebody
    could notice the call, as by a hook.
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
        if not bias:  # which is an argument of torch's from 2.12 on
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
        reset_averages(self)  # also where they are no longer tracked, unlike torch's

    def forward(self, x: Tensor, *, compute: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Do what the norm computes with this module, or by itself what torch's does."""
        return super().forward(x) if compute is None else compute(x)

    @classmethod
    def of_synchronized(cls, module: nn.SyncBatchNorm) -> InnerBatchNorm:
        """Hold the parameters, averages and hooks of a `SyncBatchNorm`."""
        inner = cls.__new__(cls)
        inner.__dict__.update(vars(module))
        del inner.__dict__["process_group"]  # which the norm has
        return inner


def is_untouched(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether skipping the call of a module has no effect: it has no hook and its own class."""
    return (
        type(module) is kind
        and not (
            module._forward_hooks
            or module._forward_pre_hooks
            or module._backward_hooks
            or module._backward_pre_hooks
            or _has_any_global_hook()
        )
        and "forward" not in module.__dict__
    )


def reset(module: nn.Module, name: str) -> None:
    """Call `reset_…` of a module, unless it took the place of one and has none."""
    getattr(module, name, lambda: None)()


def dtype_of(module: nn.Module, x: Tensor) -> torch.dtype:
    """The dtype of the parameters of a module, or that of x where it has none."""
    return next(module.parameters(), x).dtype


def of_inner(inner: str, name: str) -> Any:
    """Make a property that is an attribute of a module inside."""

    def get(self: nn.Module) -> Any:
        return getattr(getattr(self, inner), name)

    def put(self: nn.Module, value: Any) -> None:
        setattr(getattr(self, inner), name, value)

    return property(get, put, doc=f"That of `{inner}`.")
