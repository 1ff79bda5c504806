"""Kinds of values of options and settings: one check and one message for each kind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from graphnorms.errors import is_number, unknown_name


@dataclass(frozen=True)
class Kind:
    """A kind of values.

    Args:
        expected: What they are, in words.
        type: Their type or types; None: of any.
        fits: Whether a value of that type is possible.
    """

    expected: str
    type: Any = None
    fits: Callable[[Any], bool] = lambda value: True

    def require(self, name: str, value: object) -> None:
        """Raise a `ValueError` unless a value is possible."""
        if not self.has(value):
            raise ValueError(f"{name} is {value!r:.100}, expected {self.expected}")

    def has(self, value: object) -> bool:
        """Whether a value is possible."""
        # Python counts True as an integer.
        flag = isinstance(value, bool) and self.type not in (None, bool)
        return not flag and (self.type is None or isinstance(value, self.type)) and self.fits(value)


@dataclass(frozen=True)
class Word(Kind):
    """One of some words; the error for another one proposes the nearest."""

    what: str = ""
    words: tuple[str, ...] = ()

    def require(self, name: str, value: object) -> None:
        """Raise a `ValueError` unless a value is one of the words."""
        super().require(name, value)
        if value not in self.words:
            raise unknown_name(self.what, str(value), self.words)


@dataclass(frozen=True)
class ListOf(Kind):
    """A list with entries of one kind, or a single entry."""

    of: Kind = Kind("anything")
    or_one: bool = False

    def require(self, name: str, value: object) -> None:
        """Raise a `ValueError` unless every entry is possible."""
        if self.or_one and not isinstance(value, list | tuple):
            self.of.require(name, value)
            return
        super().require(name, value)
        entries: Any = value
        for entry in entries:
            self.of.require(name, entry)


def integer(at_least: int) -> Kind:
    """Integers from a number on."""
    return Kind(f"an integer ≥ {at_least}", int, lambda value: value >= at_least)


def number(expected: str, right: Callable[[float], bool]) -> Kind:
    """Finite numbers."""
    largest = sys.float_info.max
    return Kind(
        expected, None, lambda value: is_number(value) and abs(value) <= largest and right(value)
    )


def one_of(what: str, words: tuple[str, ...]) -> Word:
    """Some words: names of `what`."""
    return Word("text", str, what=what, words=words)


def list_of(kind: Kind, *, or_one: bool = False) -> ListOf:
    """Lists of one kind."""
    return ListOf(f"a list; each entry {kind.expected}", list | tuple, of=kind, or_one=or_one)


TEXT: Final = Kind("text", str)
FLAG: Final = Kind("true or false", bool)
NAMES: Final = Kind("names with values", Mapping)
