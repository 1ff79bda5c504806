"""Features from named columns of numbers and texts, of nodes or edges."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = NDArray[Any]


def features_of(
    columns: Mapping[str, NDArray[Any]], policy: str
) -> tuple[Columns | None, Columns | None]:
    """Return labels and attributes, `(rows, columns)` each, from columns, by the kind of each.

    Integers, bools and texts are labels, floats are attributes. The label of a text depends on the
    text alone (its CRC-32), so that other files have the same one.

    Args:
        columns: The columns, `(rows,)` each.
        policy: The policy for features, see `Reading`; `"attributes"` takes integers for numbers.
    """
    labels, attributes = [], []
    for name in columns:
        column = columns[name]
        if column.dtype.kind == "U":
            kinds, number = np.unique(column, return_inverse=True)
            codes = [zlib.crc32(text.encode()) for text in kinds.tolist()]
            labels.append(np.array(codes, dtype=np.int64)[number])
        elif column.dtype.kind == "f" or policy == "attributes":
            attributes.append(column.astype(np.float64))
        else:
            labels.append(column.astype(np.int64))
    return (
        np.stack(labels, axis=1) if labels else None,
        np.stack(attributes, axis=1) if attributes else None,
    )
