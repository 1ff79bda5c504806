"""Checks of vectors of integers and masks: ids, offsets, numbers of segments."""

from __future__ import annotations

import operator
from typing import Any, Final

import torch
from torch import Tensor

INTEGERS: Final = (
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)


def described(value: object) -> str:
    """Describe a value in an error: shape and dtype of a tensor, else the type."""
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} of {value.dtype}"
    return f"a {type(value).__name__}"


def check_integer_vector(name: str, vector: Tensor) -> None:
    """Refuse anything but a vector of integers."""
    if not isinstance(vector, Tensor) or vector.dim() != 1 or vector.dtype not in INTEGERS:
        raise ValueError(f"{name} is {described(vector)}, expected a vector of integers")


def check_size(name: str, size: Any) -> Any:
    """Convert a number of segments to an int; `None` is kept, anything else is refused."""
    if size is None or type(size) is int or isinstance(size, torch.SymInt):
        return size
    try:
        number: int = operator.index(size)
    except TypeError:
        number = -1
    if isinstance(size, bool) or number < 0:
        raise ValueError(f"{name} is {size!r}, expected the number of graphs as an integer")
    return number


def check_ids(index: Tensor, num_segments: int, names: tuple[str, str]) -> None:
    """Refuse ids outside the range; synchronizes the device."""
    vector, size = names
    if num_segments < 0:
        raise ValueError(f"{size} is {num_segments}, expected no negative number")
    if not index.shape[0]:
        return
    low, high = (int(value) for value in torch.aminmax(index))
    if low < 0:
        raise ValueError(f"{vector} has the negative id {low}, expected ids from 0")
    if high >= num_segments:
        raise ValueError(f"{vector} has the id {high}, but {size} is {num_segments}")


def check_offsets(ptr: Tensor, num_rows: int | None, name: str = "ptr", of: str = "rows") -> None:
    """Refuse offsets that do not ascend from 0 to `num_rows`; synchronizes the device."""
    if int(ptr[0]) != 0:
        raise ValueError(f"{name} begins with {int(ptr[0])}, expected 0")
    falls = (ptr.diff() < 0).nonzero()  # (falls, 1)
    if falls.shape[0]:
        at = int(falls[0, 0])
        raise ValueError(
            f"{name} does not ascend: {int(ptr[at])} is followed by {int(ptr[at + 1])} "
            f"at position {at + 1}"
        )
    if num_rows is not None and int(ptr[-1]) != num_rows:
        raise ValueError(f"{name} ends with {int(ptr[-1])}, expected the number of {of} {num_rows}")


def check_mask(mask: Tensor, rows: int, device: torch.device) -> None:
    """Refuse a mask that is not one bool per row on the device of the rows."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != (rows,):
        raise ValueError(
            f"mask is {described(mask)}, expected one bool per row, ({rows},), True for the rows "
            "that count"
        )
    if mask.device != device:
        raise ValueError(f"mask is on {mask.device}, but the rows are on {device}")
