"""Whether operations are being traced, transformed or recorded, or simply run."""

from __future__ import annotations

import torch
from torch import Tensor


def is_plain(x: Tensor) -> bool:
    """Whether a kernel may be called on x directly, without its operator.

    It may not where a tracer, a dispatch mode, a tensor subclass or the vmap behind
    `is_grads_batched` has to see the operator. The memory of a tensor that a transform of
    `torch.func` has wrapped cannot be read.
    """
    return (
        type(x) in (Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._functorch.is_legacy_batchedtensor(x)
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
    )


def is_traced() -> bool:
    """Whether a graph may be made of the operations, so that no value can be read.

    Under `torch.compile` and `torch.export`, and in a dispatch mode, as `make_fx`, AOTAutograd and
    fake tensors set one.
    """
    return torch.compiler.is_compiling() or is_watched()


def is_watched() -> bool:
    """Whether a dispatch mode is set, outside of Dynamo, which follows what an object keeps."""
    return not torch.compiler.is_compiling() and bool(torch._C._len_torch_dispatch_stack())


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
        is_recorded(of)
        or is_traced()
        or torch._C._are_functorch_transforms_active()
        or torch.is_inference_mode_enabled()
    )
