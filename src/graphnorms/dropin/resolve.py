"""Norms by name for models of PyG, which look strings up among PyG's own classes alone."""

from __future__ import annotations

from typing import Any

from torch import nn

from graphnorms.dropin.norms import takes_channels
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.factory import make_norm
from graphnorms.layers.spec import parse_spec


def resolve_norm(norm: str | nn.Module | None, channels: int, **arguments: Any) -> nn.Module | None:
    """Build a norm from its name, as PyG's `normalization_resolver` does for its own.

    A catalogue name, with arguments behind a colon or as keywords, gives the catalogue's layer:
    `"pair"`, `"pair:scale=2"`, `"layer"` (of each node). The name of a class, `"PairNorm"` or
    `"batch_norm"`, gives our layer of that name with PyG's defaults: `"LayerNorm"` is that of each
    graph. Only a layer that takes it is given the number of channels: `"pair"` does not take it
    for its scale. What is no string is returned as it is.

    Args:
        norm: The name; or a module, or `None`.
        channels: Number of channels.
        arguments: Handed to the layer.

    Raises:
        ValueError: There is no norm of that name, or it refuses its arguments.
        TypeError: The layer does not take one of the arguments.
    """
    if not isinstance(norm, str):
        return norm
    name, given = parse_spec(norm)
    if name not in CATALOG:
        wanted = _plain(name)
        for row in CATALOG.values():
            if _plain(row.layer.__name__) == wanted:
                arguments = {**arguments, **given}
                takes = takes_channels(row.layer)
                return row.layer(channels, **arguments) if takes else row.layer(**arguments)
    return make_norm(norm, channels, **arguments)


def _plain(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
