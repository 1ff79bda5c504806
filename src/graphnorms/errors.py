"""The exceptions that a user may want to catch, and helpers for error messages."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 2000
"""Maximal length of a foreign error message."""


class GraphnormsError(Exception):
    """Base class of the exceptions of graphnorms."""


class BackendRefusedError(GraphnormsError, ValueError):
    """A backend requested by name cannot run the call; the message says why."""


class DatasetError(GraphnormsError, ValueError):
    """A data set is missing or malformed; the message names the file and the line."""


class RunExistsError(GraphnormsError, ValueError):
    """The output folder holds a run made with other settings."""


def printable(text: str) -> str:
    r"""Escape control characters and invalid code points, e.g. as `\x1b`.

    Names and error messages must not control the terminal. Line breaks are kept.
    """
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character != "\n"
        else character
        for character in text
    )


def one_line(error: BaseException) -> str:
    """Return type and message of an exception on one line, truncated if long."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception:  # raised by its own __str__
        text = "its text cannot be read"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… (cut; {len(text)} characters)"
    return printable(f"{name}: {text}" if text else name)


def is_number(value: object) -> bool:
    """Whether `value` is an int or a float; bools do not count."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def unknown_name(kind: str, given: str, known: Iterable[str]) -> ValueError:
    """Build the error for an unknown name, with similar known names.

    Args:
        kind: The kind of name, e.g. `"norm"`.
        given: The unknown name.
        known: All known names.
    """
    names = list(known)
    hint = did_you_mean(given, names, f"known: {', '.join(names)}")
    return ValueError(f"unknown {kind} {given!r}; {hint}")


def did_you_mean(given: str, known: Iterable[str], otherwise: str) -> str:
    """Suggest known names that are spelled like a given one or contain it, or say something else.

    Args:
        given: The unknown name.
        known: All known names.
        otherwise: What to say if none is near.
    """
    names = {name.lower(): name for name in known}
    # From 0.6 on, difflib's default, two names share most of their letters in order.
    near = difflib.get_close_matches(given.lower(), names, n=3, cutoff=0.6)
    near = near or [name for name in names if given and given.lower() in name][:3]
    return f"did you mean {' or '.join(names[name] for name in near)}?" if near else otherwise
