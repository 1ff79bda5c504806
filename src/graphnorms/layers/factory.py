"""Normalizations from text: a catalogue name, or one with arguments, `"pair:scale=2"`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, Final

from torch import nn

from graphnorms.errors import unknown_name
from graphnorms.layers.catalog import CATALOG, Normalization
from graphnorms.layers.own import OwnNorm
from graphnorms.layers.spec import format_spec, parse_spec


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


def needs_of(norm: str | OwnNorm) -> tuple[str, ...]:
    """List what a normalization takes besides features and graphs, see `Normalization`."""
    return () if isinstance(norm, OwnNorm) else lookup(norm).needs


def make_norm(norm: str | OwnNorm, in_channels: int, **arguments: Any) -> nn.Module:
    """Build a normalization given as text, or one of the user's own.

    Args:
        norm: Its name in the catalogue, e.g. `"graph"`, with arguments behind a colon if there
            are any: `"pair:scale=2"`.
        in_channels: Number of channels; not handed to a layer that does not ask for it.
        arguments: Handed to the layer, over the row's own defaults and under those of the text.
            `eps` is dropped for a layer that has none, and for one of the user's own.

    Raises:
        ValueError: There is no normalization of that name, or it refuses its arguments.
        TypeError: The layer does not take one of the arguments.
    """
    if isinstance(norm, OwnNorm):
        arguments.pop("eps", None)  # it has its own
        return norm.layer(in_channels, **arguments)
    row = lookup(norm)
    known = inspect.signature(row.layer).parameters
    if "eps" not in known:
        arguments.pop("eps", None)
    given = {**row.arguments, **arguments, **parse_spec(norm)[1]}
    if "in_channels" in known:
        given["in_channels"] = in_channels
    return row.layer(**given)
