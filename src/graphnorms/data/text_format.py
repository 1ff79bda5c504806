"""Numbers, lists and names as messages write them."""

from __future__ import annotations

from collections.abc import Iterable

from graphnorms.errors import printable


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun in the right number: `1 line`, `2 lines`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def some(items: Iterable[object], few: int = 8) -> str:
    """List the first few of some items, and how many more there are."""
    texts = [str(item) for item in items]
    more = [f"{len(texts) - few} more"] if len(texts) > few else []
    return ", ".join(texts[:few] + more)


def as_name(text: str) -> str:
    """Write a text that a file calls something by in one line, which steers no terminal."""
    return printable(" ".join(text.split()))
