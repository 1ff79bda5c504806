"""Kinds of values of options and settings: one check and one message for each kind."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from graphnorms.errors import is_number, unknown_name


@dataclass(frozen=True)
class Kind:
    """A kind of values.

    Args:
        expected: The possible values, in words.
        type: Their type or types; None: any.
        fits: Whether a value of that type is possible.
        words: The possible texts; the error for another one proposes the nearest. Empty: any.
        entry: The kind of the entries of a list.
        or_one: Whether a single entry is possible in place of a list.
    """

    expected: str
    type: Any = None
    fits: Callable[[Any], bool] = lambda value: True
    words: tuple[str, ...] = ()
    entry: Kind | None = None
    or_one: bool = False

    def require(self, name: str, value: Any) -> None:
        """Raise a `ValueError` unless a value is possible.

        Args:
            name: What has the value, for the message.
            value: The value.
        """
        if self.entry is not None and self.or_one and not isinstance(value, list | tuple):
            value = [value]
        # Python counts True as an integer.
        flag = isinstance(value, bool) and self.type not in (None, bool)
        right = self.type is None or isinstance(value, self.type)
        if flag or not right or not self.fits(value):
            raise ValueError(f"{name} is {value!r:.100}, expected {self.expected}")
        if self.words and value not in self.words:
            raise unknown_name(name, value, self.words)
        if self.entry is not None:
            for each in value:
                self.entry.require(name, each)


def integer(at_least: int) -> Kind:
    """Integers from a number on."""
    return Kind(f"an integer ≥ {at_least}", int, lambda value: value >= at_least)


def number(expected: str, right: Callable[[float], bool]) -> Kind:
    """Finite numbers."""
    largest = sys.float_info.max
    return Kind(
        expected, None, lambda value: is_number(value) and abs(value) <= largest and right(value)
    )


def list_of(entry: Kind, *, or_one: bool = False) -> Kind:
    """Lists of one kind."""
    expected = f"a list; each entry {entry.expected}"
    return Kind(expected, list | tuple, entry=entry, or_one=or_one)


TEXT: Final = Kind("text", str)
FLAG: Final = Kind("true or false", bool)
PLAIN: Final = Kind(
    "a number, a text, or true or false", fits=lambda value: isinstance(value, str | int | float)
)
NAMES: Final = Kind("names with values", Mapping)


_DURATION: Final = re.compile(
    r"(?=\S)(?:(?P<days>[\d.]+) ?d)? ?(?:(?P<hours>[\d.]+) ?h)? ?"
    r"(?:(?P<minutes>[\d.]+) ?m(?:in)?)? ?(?:(?P<seconds>[\d.]+) ?s)?"
)


def seconds_of(text: str | float) -> float:
    """Read a time in seconds: `90m`, `1h30m`, `45s`, `2d`, or a number of seconds.

    Raises:
        ValueError: It is no time, or not above 0.
    """
    given, found = str(text).strip(), math.nan
    if match := _DURATION.fullmatch(given):
        found = timedelta(
            **{unit: float(value) for unit, value in match.groupdict().items() if value}
        ).total_seconds()
    else:
        found = float(given)
    if not 0 < found < math.inf:
        raise ValueError(f"not a time above 0: {text}")
    return found


def is_duration(value: object) -> bool:
    """Whether `seconds_of` reads a value."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        seconds_of(value)
    except (ValueError, OverflowError):
        return False
    return True
