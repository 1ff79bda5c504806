"""The types of rows, for layers with parameters per type."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphnorms.segments import Segments, as_segments
from graphnorms.tracing import is_traced


def check_types(num_types: int) -> None:
    """Refuse a number of types that is not positive."""
    if num_types < 1:
        raise ValueError(f"num_types is {num_types}, expected a positive number")


def as_types(
    type_vec: Tensor | Segments | None,
    type_ptr: Tensor | Sequence[int] | None,
    *,
    rows_of: Tensor,
    num_types: int,
    mask: Tensor | None,
) -> Segments:
    """Convert `type_vec` or `type_ptr` to the Segments of the rows, one per type.

    Args:
        type_vec: The type of every row, or a `Segments` of the types.
        type_ptr: The offsets of the types, for rows sorted by type; takes precedence.
        rows_of: The features, `(rows, channels)`.
        num_types: Number of types.
        mask: True for the rows that count; `None` for all.

    Raises:
        ValueError: Both are missing, or they do not assign a type to exactly the rows.
    """
    if type_ptr is not None:
        if not isinstance(type_ptr, Tensor):
            type_ptr = torch.tensor(type_ptr, device=rows_of.device)
        if type_ptr.shape != (num_types + 1,):
            raise ValueError(
                f"type_ptr is {tuple(type_ptr.shape)}, expected num_types + 1 offsets, "
                f"({num_types + 1},)"
            )
        type_vec = Segments.from_ptr(
            type_ptr,
            num_rows=rows_of.shape[0],
            validate=False if is_traced() else None,
        )
    elif type_vec is None:
        raise ValueError(
            "Either 'type_vec' or 'type_ptr' must be given: the type of every row, or the "
            "offsets of rows sorted by type"
        )
    return as_segments(
        type_vec,
        rows_of=rows_of,
        num_segments=num_types,
        mask=mask,
        names=("type_vec", "num_types"),
    )
