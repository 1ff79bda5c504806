"""The exceptions a user may want to catch, and what finds and words them."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from typing import Final

_LONGEST: Final = 2000
"""Characters that are kept of what other code says."""


class GraphnormsError(Exception):
    """Base of the exceptions that are graphnorms' own."""


class BackendRefusedError(GraphnormsError, ValueError):
    """A backend was asked for by name and cannot run the problem; the message says why."""


class DatasetError(GraphnormsError, ValueError):
    """A data set is missing or malformed; the message names the file and the line."""


class RunExistsError(GraphnormsError, ValueError):
    """The output folder holds a run made with other settings."""


def printable(text: str) -> str:
    r"""Write control characters, and what no encoding knows, as escapes such as `\x1b`.

    What a name or an exception contains must not steer a terminal. Lines stay lines.
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
    """Return what an exception says on one line, its kind in front of it, long ones cut."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception:  # of the exception's own __str__
        text = "its text cannot be read"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… (cut; {len(text)} characters)"
    return printable(f"{name}: {text}" if text else name)


def is_number(value: object) -> bool:
    """Whether `value` is an int or a float; bools do not count."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def unknown_name(kind: str, given: str, known: Iterable[str]) -> ValueError:
    """Build the error for a name that is not known, with the nearest names that are.

    Args:
        kind: What the name should have named, e.g. `"norm"`.
        given: The name as given.
        known: Every name that would have been right.
    """
    names = list(known)
    near = difflib.get_close_matches(given.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names)}"
    return ValueError(f"unknown {kind} {given!r}; {hint}")
