"""Offsets and order of rows, derived from segment ids or counts."""

from __future__ import annotations

import torch
from torch import Tensor

from graphnorms.tracing import is_batched


def offsets_of(counts: Tensor) -> Tensor:
    """Compute the offsets of segments with these numbers of rows, `(segments + 1,)`."""
    ptr = counts.new_zeros(counts.shape[0] + 1)
    torch.cumsum(counts, 0, out=ptr[1:])
    return ptr


def offsets_in(ids: Tensor, num_segments: int) -> Tensor:
    """Compute the offsets of the segments in ascending ids, `(segments + 1,)`."""
    # Unlike bincount, searchsorted reads nothing back from a GPU.
    return torch.searchsorted(ids.contiguous(), torch.arange(num_segments + 1, device=ids.device))


def offsets_and_order(
    index: Tensor, num_segments: int, is_sorted: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Compute the offsets, and the rows in the order of their segments (`None` if sorted)."""
    if runs_without_search(index):
        bounds = torch.arange(num_segments + 1, device=index.device)
        return (index.unsqueeze(1) < bounds).sum(0), torch.sort(index)[1]
    if is_sorted:
        return offsets_in(index, num_segments), None
    ordered, order = torch.sort(index, stable=True)
    return offsets_in(ordered, num_segments), order


def runs_without_search(batch: Tensor) -> bool:
    """Whether the code runs under vmap or an export to ONNX.

    Both lack a stable sort and a binary search. The order need not be stable there: plain torch
    runs, which only needs some row of each segment.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export()
    return is_batched(batch)
