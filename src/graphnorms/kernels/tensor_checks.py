"""What every operation checks of its tensors."""

from __future__ import annotations

from torch import Tensor


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
