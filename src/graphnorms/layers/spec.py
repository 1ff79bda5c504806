"""Normalizations as text: a name with optional arguments after a colon, `"pair:scale=2"`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "none": None}


def split_specs(text: str) -> list[str]:
    """Split a list of normalizations at its commas: `"none,pair:scale=2,eps=0.1,graph"`.

    A part of the form `argument=value` belongs to the normalization before it.
    """
    parts: list[str] = []
    for part in (piece.strip() for piece in text.split(",")):
        if parts and ":" in parts[-1] and ":" not in part and "=" in part:
            parts[-1] += f",{part}"
        elif part:
            parts.append(part)
    return parts


def parse_spec(text: str) -> tuple[str, dict[str, Any]]:
    """Split a text into the name and the arguments.

    A value is parsed as a number, `true`, `false` or `none` if possible, else kept as a string.

    Raises:
        ValueError: A part after the colon is not `argument=value`.
    """
    name, colon, rest = text.strip().partition(":")
    return name.strip(), parse_arguments(text, rest) if colon else {}


def parse_arguments(text: str, rest: str) -> dict[str, Any]:
    """Parse the arguments of a text, see `parse_spec`."""
    arguments: dict[str, Any] = {}
    for part in rest.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key.isidentifier() and equals and value):
            raise ValueError(f"{text!r} has {part!r}, expected argument=value, as in pair:scale=2")
        arguments[key] = _value(value)
    return arguments


def format_spec(name: str, arguments: Mapping[str, Any]) -> str:
    """Join a name and arguments to a text that does not depend on their order."""
    words = {value: word for word, value in _WORDS.items()}
    pairs = ",".join(
        f"{key}={words[value] if isinstance(value, bool) or value is None else value}"
        for key, value in sorted(arguments.items())
    )
    return f"{name}:{pairs}" if pairs else name


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
