"""Verdicts on made-up comparisons, number by number as they were when they were kept.

`python -m tests.unit.lab.test_golden` keeps them anew, after a change that is meant to change them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tests.golden import TABLES
from tests.verdicts import judge

KEPT = Path(__file__).with_name("golden_verdicts.json")


def numbers(name: str) -> dict[str, Any]:
    """Return a verdict without its sentences."""
    table = {table.__name__: table for table in TABLES}[name]()
    verdict = judge(table.records, **{"protocol": "nested", **table.arguments})
    return {
        key: value
        for key, value in verdict.to_dict().items()
        if key != "closing" and not key.endswith("_sentence")
    }


def same(value: Any, kept: Any) -> bool:
    if isinstance(kept, dict):
        return kept.keys() == value.keys() and all(same(value[key], kept[key]) for key in kept)
    if isinstance(kept, list):
        return len(kept) == len(value) and all(map(same, value, kept))
    if isinstance(kept, float):
        return math.isclose(value, kept, rel_tol=1e-12, abs_tol=1e-12)
    return bool(value == kept)


@pytest.mark.parametrize("name", [table.__name__ for table in TABLES])
def test_the_verdict_has_the_numbers_that_were_kept(name: str) -> None:
    kept, found = json.loads(KEPT.read_text())[name], numbers(name)
    assert found.keys() == kept.keys()
    assert [key for key in kept if not same(found[key], kept[key])] == []


if __name__ == "__main__":
    kept = {table.__name__: numbers(table.__name__) for table in TABLES}
    KEPT.write_text(json.dumps(kept, separators=(",", ":")).replace('},"', '},\n"') + "\n")
