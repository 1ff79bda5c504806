"""What a search has chosen for a norm, over folds or seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from graphnorms.training.record import Record


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The values of one option in the reported trials of a norm.

    Args:
        option: Its name.
        median: Their median.
        low, high: Their first and third quartile.
    """

    option: str
    median: float
    low: float
    high: float


def chosen_of(reported: Iterable[Record]) -> tuple[Chosen, ...]:
    """Describe the values of every searched option; nothing where nothing was searched."""
    values: dict[str, list[float]] = defaultdict(list)
    for record in reported:
        for option, value in (record.config.get("searched") or {}).items():
            values[option].append(value)
    found = []
    for option, of_option in values.items():
        low, median, high = map(float, np.percentile(of_option, (25, 50, 75)))
        found.append(Chosen(option=option, median=median, low=low, high=high))
    return tuple(found)
