"""Checks of tensors that all operations share."""

from __future__ import annotations

from torch import Tensor


def check_features(x: Tensor) -> None:
    """Refuse features that are not `(rows, channels)` of a floating dtype."""
    if x.dim() != 2 or not x.shape[1] or not x.is_floating_point():
        raise ValueError(
            f"x is {tuple(x.shape)} of {x.dtype}, expected (rows, channels) of a floating dtype"
        )


def check_memory(name: str, tensor: Tensor) -> None:
    """Refuse a tensor with elements but without memory.

    Tensors on the meta device have no memory by design, and pass.
    """
    try:
        if tensor.untyped_storage().data_ptr():
            return
    except (RuntimeError, NotImplementedError):  # a subclass that wraps other tensors
        pass
    if tensor.numel() and not tensor.is_meta:
        raise ValueError(
            f"{name} is {tuple(tensor.shape)} of {tensor.dtype}, a {type(tensor).__name__} without "
            "memory: its storage was freed, or it wraps other tensors. Under FSDP a parameter has "
            "memory only while the module given to fully_shard runs: call that module, not a "
            "module inside it"
        )
