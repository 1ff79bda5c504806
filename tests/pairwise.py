"""Fewer combinations of parameters, and still every pair of values together.

A test with the parameters layer, input, dtype and epilogue runs for every layer with every input,
every input with every dtype, and so on for each two of its parameters, but not for all four at
once: most errors need two values to meet. `--all-combinations` runs the whole product.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest

Row = Mapping[str, int]
"""The number of the value that each parameter has."""


def pairs_of(row: Row) -> set[tuple[str, int, str, int]]:
    """Every two values of a row."""
    two = itertools.combinations(sorted(row.items()), 2)
    return {(first, i, second, j) for (first, i), (second, j) in two}


def cover(rows: Sequence[Row]) -> list[int]:
    """Choose rows in which every pair of values stands that stands in any row.

    Greedy, in the order given: first rows all of whose pairs are new, then half, then one.

    Returns:
        The places of the rows, ascending.
    """
    pairs = [pairs_of(row) for row in rows]
    missing = set().union(*pairs)
    chosen: list[int] = []
    most = max(map(len, pairs), default=0)
    for least in (most, most // 2 + 1, 1):
        for place, own in enumerate(pairs):
            if not missing:
                break
            if len(own & missing) >= least:
                chosen.append(place)
                missing -= own
    return sorted(chosen)


def rows_of(items: Sequence[pytest.Function]) -> list[Row]:
    """Number the values of each parameter, in the order in which they come first.

    Values are the same if they are equal words or numbers, or one object. (Pytest's own numbers
    differ for one value where a list of combinations was handed to it.)
    """
    numbers: dict[str, dict[object, int]] = defaultdict(dict)

    def number(name: str, value: object) -> int:
        known = numbers[name]
        key = (type(value), value if isinstance(value, str | int | float) else id(value))
        return known.setdefault(key, len(known))

    return [
        {name: number(name, value) for name, value in item.callspec.params.items()}
        for item in items
    ]


def thin(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Choose items as `cover` does, test by test; their order stays."""
    tests: dict[str, list[pytest.Function]] = defaultdict(list)
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
            tests[item.nodeid.removesuffix(f"[{item.callspec.id}]")].append(item)
    kept: set[pytest.Item] = set(items)
    for together in tests.values():
        if len(together[0].callspec.params) < 3:  # with two, every combination is a pair
            continue
        rows = rows_of(together)
        kept.difference_update(together)
        kept.update(together[place] for place in cover(rows))
    return [item for item in items if item in kept]
