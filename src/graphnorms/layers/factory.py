"""Builds layers from text: a catalogue name with or without arguments, `"pair:scale=2"`."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any, Final

from torch import nn

from graphnorms.errors import unknown_name
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.normalization import Normalization
from graphnorms.layers.own_norm import OwnNorm
from graphnorms.layers.spec import format_spec, parse_spec


def names() -> list[str]:
    """List the names of the normalizations in the order of the catalogue."""
    return list(CATALOG)


def lookup(norm: str) -> Normalization:
    """Return the row of a normalization given as text.

    Arguments after a colon, `"pair:scale=2"`, become part of the arguments, the name and the title
    of the row; the name does not depend on their order.

    Raises:
        ValueError: The name or an argument is unknown; the message suggests similar ones.
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
    return replace(
        row, name=format_spec(name, arguments), title=row.titled(arguments), arguments=merged
    )


def settings_of(row: Normalization) -> dict[str, Any]:
    """List the arguments that a text can set, with their defaults."""
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
"""Arguments that a text cannot set: the model decides them, or they are aliases."""


def needs_of(norm: str | OwnNorm) -> tuple[str, ...]:
    """List the inputs that a normalization needs besides features and graphs, see
    `Normalization`."""
    return () if isinstance(norm, OwnNorm) else lookup(norm).needs


def make_norm(norm: str | OwnNorm, in_channels: int, **arguments: Any) -> nn.Module:
    """Build a normalization from text, or a user-defined one.

    Args:
        norm: The catalogue name, e.g. `"graph"`, optionally with arguments after a colon:
            `"pair:scale=2"`.
        in_channels: Number of channels; not passed to a layer that does not take it.
        arguments: Passed to the layer. They override the defaults of the row; the text overrides
            them. `eps` is dropped for a layer without one and for a user-defined norm.

    Raises:
        ValueError: The name is unknown, or the layer refuses its arguments.
        TypeError: The layer does not accept one of the arguments.
    """
    if isinstance(norm, OwnNorm):
        arguments.pop("eps", None)  # a user-defined norm chooses its own
        return norm.layer(in_channels, **arguments)
    row = lookup(norm)
    known = inspect.signature(row.layer).parameters
    if "eps" not in known:
        arguments.pop("eps", None)
    given = {**row.arguments, **arguments, **parse_spec(norm)[1]}
    if "in_channels" in known:
        given["in_channels"] = in_channels
    return row.layer(**given)
