"""Normalizations from text: a catalogue name, or one with arguments, `"pair:scale=2"`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from torch import nn

from graphnorms.errors import unknown_name
from graphnorms.layers.catalog import CATALOG, Normalization

_WORDS: Final[Mapping[str, Any]] = {"true": True, "false": False, "none": None}


def split_specs(text: str) -> list[str]:
    """Split a list of normalizations at its commas: `"none,pair:scale=2,eps=0.1,graph"`.

    A part that gives an argument and no name belongs to the normalization before it.
    """
    parts: list[str] = []
    for part in (piece.strip() for piece in text.split(",")):
        if parts and ":" in parts[-1] and ":" not in part and "=" in part:
            parts[-1] += f",{part}"
        elif part:
            parts.append(part)
    return parts


def parse_spec(text: str) -> tuple[str, dict[str, Any]]:
    """Take a text apart into the name and the arguments.

    A value is read as a number, `true`, `false` or `none` where it is one, else as a word.

    Raises:
        ValueError: A part behind the colon is not `argument=value`.
    """
    name, colon, rest = text.strip().partition(":")
    arguments: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key.isidentifier() and equals and value):
            raise ValueError(f"{text!r} has {part!r}, expected argument=value, as in pair:scale=2")
        arguments[key] = _value(value)
    return name.strip(), arguments


def format_spec(name: str, arguments: Mapping[str, Any]) -> str:
    """Put a name and arguments together, the same text for equal arguments in any order."""
    words = {value: word for word, value in _WORDS.items()}
    pairs = ",".join(
        f"{key}={words[value] if isinstance(value, bool) or value is None else value}"
        for key, value in sorted(arguments.items())
    )
    return f"{name}:{pairs}" if pairs else name


def names() -> list[str]:
    """List the names of the normalizations, in the order of the catalogue."""
    return list(CATALOG)


def lookup(norm: str) -> Normalization:
    """Find the row of a normalization given as text.

    Arguments behind a colon, `"pair:scale=2"`, go into the arguments, the name and the title of
    the row returned; the name is then the same text for the same arguments in any order.

    Raises:
        ValueError: There is none of that name, or it has no such argument; the message has the
            nearest ones.
    """
    name, arguments = parse_spec(norm)
    row = CATALOG.get(name)
    if row is None:
        raise unknown_name("norm", name, CATALOG)
    if not arguments:
        return row
    known = settings_of(row)
    for key in arguments:
        if key not in known:
            raise unknown_name(f"argument of {name}", key, known)
    merged = {**row.arguments, **arguments}
    words = ", ".join(f"{key}={value}" for key, value in sorted(arguments.items()))
    return replace(
        row, name=format_spec(name, arguments), title=f"{row.title} ({words})", arguments=merged
    )


def settings_of(row: Normalization) -> dict[str, Any]:
    """List the arguments that a text can set, each with the value it has without."""
    given = {
        key: parameter.default
        for key, parameter in inspect.signature(row.layer).parameters.items()
        if key not in _TAKEN and parameter.default is not inspect.Parameter.empty
    }
    return {**given, **row.arguments}


_TAKEN: Final = (
    "in_channels",
    "elementwise_affine",
    "activation",
    "dropout",
    "backend",
    "device",
    "dtype",
    "process_group",
    "whole_graphs",
)
"""What a text cannot set: the model that the normalization stands in decides it, or another
name of an argument."""


def make_norm(norm: str, in_channels: int, **arguments: Any) -> nn.Module:
    """Build a normalization given as text.

    Args:
        norm: Its name in the catalogue, e.g. `"graph"`, with arguments behind a colon if there
            are any: `"pair:scale=2"`.
        in_channels: Number of channels; not handed to a layer that does not ask for it.
        arguments: Handed to the layer, over the row's own defaults and under those of the text.
            `eps` is dropped for a layer that has none.

    Raises:
        ValueError: There is no normalization of that name, or it refuses its arguments.
        TypeError: The layer does not take one of the arguments.
    """
    row = lookup(norm)
    known = inspect.signature(row.layer).parameters
    if "eps" not in known:
        arguments.pop("eps", None)
    given = {**row.arguments, **arguments, **parse_spec(norm)[1]}
    if "in_channels" in known:
        given["in_channels"] = in_channels
    return row.layer(**given)


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
