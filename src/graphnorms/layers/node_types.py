"""Which rows are of which type, for the layers that have parameters per type."""

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
    """Turn what a layer was given as types into the Segments of the rows, one per type.

    Args:
        type_vec: The type of every row, or a `Segments` of the types.
        type_ptr: Where the types begin and end, of rows sorted by type; comes before `type_vec`.
        rows_of: The features, `(rows, channels)`.
        num_types: How many types there are.
        mask: Which rows count; `None` for all.

    Raises:
        ValueError: There is neither, or they do not give exactly the rows a type.
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
        type_vec, rows_of=rows_of, num_segments=num_types, mask=mask,
        names=("type_vec", "num_types"),
    )  # fmt: skip
