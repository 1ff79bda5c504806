"""Whether operations are being traced, transformed or recorded, or simply run.

All that is read of torch's private names stands here. Where a later torch lacks one, the answer is
the one that is right and slow: operators and plain torch in place of direct calls of kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad


def _private(path: str, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Find a function of torch by its path; what stands in for it where there is none."""
    found: Any = torch
    for name in path.split("."):
        found = getattr(found, name, None)
    return otherwise if found is None else found


dispatch_modes: Final = _private("_C._len_torch_dispatch_stack", lambda: 1)
"""How many dispatch modes are set."""


def _assert_now(condition: Tensor, message: str) -> None:
    if not is_traced() and not bool(condition):
        raise RuntimeError(message)


assert_async: Final = _private("_assert_async", _assert_now)
"""Fail on the device, with a message, if a condition does not hold; nothing is read back."""

version_of: Final = _private("Tensor._version.__get__", lambda tensor: object())
"""How often a tensor was written to; where torch does not count, no two answers are equal."""

is_zero: Final = _private("Tensor._is_zerotensor", lambda tensor: False)
"""Whether all numbers of a tensor are 0, and torch has noted that in place of them."""

_transforms_active: Final = _private("_C._are_functorch_transforms_active", lambda: True)
_is_wrapped: Final = _private(
    "_C._functorch.is_functorch_wrapped_tensor", lambda x: _transforms_active()
)
_is_batched: Final = _private("_C._functorch.is_batchedtensor", lambda x: False)
_is_legacy_batched: Final = _private("_C._functorch.is_legacy_batchedtensor", lambda x: False)
_unwrapped: Final = _private("_C._functorch.get_unwrapped", lambda x: x)


def is_plain(x: Tensor) -> bool:
    """Whether a kernel may be called on x directly, without its operator.

    It may not where a tracer, a dispatch mode, a tensor subclass, a transform of `torch.func`,
    forward mode or the vmap behind `is_grads_batched` has to see the operator, or those of plain
    torch. The memory of a tensor that a transform has wrapped cannot be read, even afterwards.
    """
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not dispatch_modes()
        and not _transforms_active()
        and getattr(forward_ad, "_current_level", -1) < 0
        and not _is_legacy_batched(x)
        and not _is_wrapped(x)
    )


def is_traced() -> bool:
    """Whether a graph may be made of the operations, so that no value can be read.

    Under `torch.compile` and `torch.export`, and in a dispatch mode, as `make_fx`, AOTAutograd and
    fake tensors set one.
    """
    return torch.compiler.is_compiling() or bool(dispatch_modes())


def is_watched() -> bool:
    """Whether a dispatch mode is set, outside of Dynamo, which follows what an object keeps."""
    return not torch.compiler.is_compiling() and bool(dispatch_modes())


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is active."""
    return bool(_transforms_active())


def is_batched(x: Tensor) -> bool:
    """Whether x stands for the many tensors of a `torch.vmap`, at whatever level."""
    if torch.compiler.is_compiling():
        return bool(_is_batched(x))
    while _is_wrapped(x) and not _is_batched(x):
        inner = _unwrapped(x)
        if inner is x:
            return False
        x = inner
    return bool(_is_batched(x))


def is_forward_mode() -> bool:
    """Whether derivatives are taken in forward mode."""
    return getattr(forward_ad, "_current_level", -1) >= 0


def traces_autograd() -> bool:
    """Whether Dynamo traces `torch.autograd.grad`, so that a region holds a derivative."""
    return torch.compiler.is_compiling() and getattr(
        torch._dynamo.config, "trace_autograd_ops", False
    )


def is_recorded(of: Tensor | torch.device | None) -> bool:
    """Whether operations on a tensor or device are now recorded in a CUDA graph."""
    on_gpu = of.is_cuda if isinstance(of, Tensor) else of is not None and of.type == "cuda"
    return on_gpu and torch.cuda.is_current_stream_capturing()


def may_keep(of: Tensor | torch.device | None) -> bool:
    """Whether what is derived now, of a tensor or for a device, outlives the call.

    In a traced graph a kept tensor would be a side effect and a reason to compile again, under a
    transform of `torch.func` it belongs to the transform, one made in inference mode cannot be used
    in training, and one made while a CUDA graph is recorded lies in the graph's memory.
    """
    return not (
        is_recorded(of) or is_traced() or is_transformed() or torch.is_inference_mode_enabled()
    )


F = TypeVar("F", bound=Callable[..., Any])


def constant_in_graphs(function: F) -> F:
    """Make compiled graphs hold the result of a function, and not trace how it is found.

    It is what `torch.compiler.assume_constant_result` does, which at import would load all of
    Dynamo.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def outside_graphs(function: F) -> F:
    """Make a compiled model break its graph at a function, as `torch.compiler.disable` does.

    That one, too, would load all of Dynamo at import.
    """
    function._torchdynamo_disable = True  # type: ignore[attr-defined]
    return function
