"""What every operation asks of a call: are its features any, and who may run it."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.errors import BackendRefusedError
from graphnorms.tracing import is_forward_mode, is_transformed


def check_features(x: Tensor) -> None:
    """Raise the error for features that are not `(rows, channels)` of a floating dtype."""
    if x.dim() != 2 or not x.shape[1] or not x.is_floating_point():
        raise ValueError(
            f"x is {tuple(x.shape)} of {x.dtype}, expected (rows, channels) of a floating dtype"
        )


def check_memory(name: str, tensor: Tensor) -> None:
    """Raise the error for a tensor that has numbers, but no memory that holds them.

    Tensors on the meta device have no memory by design, and pass.
    """
    try:
        if tensor.untyped_storage().data_ptr():
            return
    except (RuntimeError, NotImplementedError):  # a subclass that holds other tensors
        pass
    if tensor.numel() and not tensor.is_meta:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype}, a {type(tensor).__name__} without "
            "memory: its storage was freed, or it stands for other tensors. Under FSDP a parameter "
            "has memory while the module runs that was given to fully_shard: call that module, "
            "and no module within it directly"
        )


def needs_plain_torch(backend: str) -> bool:
    """Whether the call is one that only the reference can serve.

    Those are the transforms of `torch.func` and forward-mode differentiation, which go through
    every operation by itself, and an export to ONNX, which knows torch's operations alone.

    Raises:
        BackendRefusedError: It is, but another backend was asked for by name.
    """
    if is_transformed():
        reason = "torch.func transforms"
    elif is_forward_mode():
        reason = "forward-mode differentiation"
    elif torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
        reason = "an export to ONNX"
    else:
        return False
    if backend != "auto":
        raise BackendRefusedError(
            f"backend {backend!r} cannot run this: it is under {reason}, which needs plain "
            "torch; use backend='auto' for one that can"
        )
    return True


def is_interpreted(backend: str, x: Tensor, plain: bool) -> bool:
    """Whether kernels for a GPU run on the CPU, in Triton's interpreter.

    Args:
        backend: What was chosen.
        x: The features.
        plain: Whether kernels may be called directly.

    Raises:
        BackendRefusedError: They should, but the operators are watched: they pick the kernels by
            the device, and would take others.
    """
    if backend != "triton" or not x.is_cpu:
        return False
    if not plain:
        raise BackendRefusedError(
            "backend 'triton' cannot run this: on the CPU its interpreter has no operator that "
            "torch.compile or a dispatch mode could see; use backend='auto' for one that can"
        )
    return True
