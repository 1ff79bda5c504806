"""Formatting of numbers, lists and names in messages."""

from __future__ import annotations

from collections.abc import Iterable

from graphnorms.errors import printable


def count(number: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun: `1 line`, `2 lines`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def some(items: Iterable[object], few: int = 8) -> str:
    """List the first few items, and the number of further ones."""
    texts = [str(item) for item in items]
    more = [f"{len(texts) - few} more"] if len(texts) > few else []
    return ", ".join(texts[:few] + more)


def as_name(text: str) -> str:
    """Format a name from a file on one line, without control characters."""
    return printable(" ".join(text.split()))
