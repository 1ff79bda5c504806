"""Offsets and the order of the rows, derived on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.tracing import is_batched


def offsets_of(counts: Tensor) -> Tensor:
    """Where segments of so many rows begin, and the last one ends."""
    ptr = counts.new_zeros(counts.shape[0] + 1)
    torch.cumsum(counts, 0, out=ptr[1:])
    return ptr


def offsets_and_order(
    index: Tensor, num_segments: int, is_sorted: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Where the segments begin, and the rows by segment (`None` if they stand so already)."""
    bounds = torch.arange(num_segments + 1, device=index.device)
    if must_be_simple(index):
        return (index.unsqueeze(1) < bounds).sum(0), torch.sort(index)[1]
    if is_sorted:
        return torch.searchsorted(index.contiguous(), bounds), None
    ordered, order = torch.sort(index, stable=True)
    return torch.searchsorted(ordered.contiguous(), bounds), order


def must_be_simple(batch: Tensor) -> bool:
    """Whether ONNX or vmap, which have neither a stable sort nor a binary search, take part.

    The order then need not be stable: plain torch runs, and asks only for a row of each segment.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export()
    return is_batched(batch)
