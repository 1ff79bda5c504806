"""Checks of the tensors that a graph set is made of; each error names the tensor."""

from __future__ import annotations

import torch
from torch import Tensor


def check_tensor(name: str, tensor: Tensor, dtype: torch.dtype, dimensions: int) -> None:
    """Raise the error for a tensor of another dtype or number of dimensions."""
    if tensor.dtype != dtype or tensor.dim() != dimensions:
        raise ValueError(
            f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, "
            f"expected {dtype} with {dimensions} dimension{'s' if dimensions > 1 else ''}"
        )


def check_offsets(
    name: str, ptr: Tensor, rows: int, rows_noun: str, end: int, end_noun: str
) -> None:
    """Raise the error for offsets that do not ascend from 0 to `end`, one more than `rows`."""
    if ptr.shape[0] != rows + 1:
        raise ValueError(
            f"{name} has {ptr.shape[0]} entries, expected {rows + 1}: "
            f"one more than there are {rows_noun}"
        )
    if int(ptr[0]) != 0 or int(ptr[-1]) != end:
        raise ValueError(
            f"{name} goes from {int(ptr[0])} to {int(ptr[-1])}, expected from 0 to {end}, "
            f"the number of {end_noun}"
        )
    falls = (ptr.diff() < 0).nonzero()  # (falls, 1)
    if falls.shape[0]:
        at = int(falls[0, 0])
        raise ValueError(
            f"{name} does not ascend: {int(ptr[at])} is followed by {int(ptr[at + 1])} "
            f"at position {at + 1}"
        )
