"""The look of a norm: its name, colour and marker, the same wherever it is shown.

Colours are those of Okabe & Ito, which people with any of the common colour-vision
deficiencies can tell apart; a marker and a dash pattern repeat what the colour says.

Source: Okabe & Ito, Color Universal Design, 2008, https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.factory import lookup


@dataclass(frozen=True)
class NormStyle:
    """How one norm is shown.

    Args:
        name: Display name.
        color: Hexadecimal, with enough contrast on white and on near-black.
        marker: Bokeh's name of the marker.
        dash: Bokeh's name of the dash pattern.
    """

    name: str
    color: str
    marker: str
    dash: str


_LOOKS = {
    "none": ("#8A8A8A", "x", "dashed"),
    "batch": ("#2B86C5", "square", "solid"),
    "layer": ("#E69F00", "triangle", "solid"),
    "layer-graph": ("#CC79A7", "inverted_triangle", "dotdash"),
    "instance": ("#009E73", "diamond", "solid"),
    "graph": ("#D55E00", "circle", "solid"),
}
"""Colour, marker and dash by catalogue name. The blue is lightened for dark backgrounds."""

_OTHER_COLORS = (
    *("#56B4E9", "#B79F00", "#9B6FD0", "#C25B78", "#6E9B34", "#B07C52"),
    *("#3FA7A0", "#D8795A", "#6F82D8", "#B565A7", "#8A9A5B", "#C99A2E"),
)
_OTHER_MARKERS = ("hex", "plus", "star", "asterisk", "triangle_pin", "square_pin")
_OTHER_DASHES = ("solid", "dashed", "dotted", "dotdash")


def style_of(norm: str) -> NormStyle:
    """Return the look of a norm.

    The other norms of the catalogue differ in colour or, where there are more norms than colours,
    in marker and dash pattern; for any other text, a hash of it decides.
    """
    if norm in _LOOKS:
        return NormStyle(display_name(norm), *_LOOKS[norm])
    others = [name for name in CATALOG if name not in _LOOKS]
    if norm in others:
        number = others.index(norm)
        round_, color = divmod(number, len(_OTHER_COLORS))
        marker, dash = number + round_, round_
    else:
        number = int.from_bytes(hashlib.sha256(norm.encode()).digest()[:4])
        color, marker, dash = number, number // 16, number // 256
    return NormStyle(
        name=display_name(norm),
        color=_OTHER_COLORS[color % len(_OTHER_COLORS)],
        marker=_OTHER_MARKERS[marker % len(_OTHER_MARKERS)],
        dash=_OTHER_DASHES[dash % len(_OTHER_DASHES)],
    )


def display_name(norm: str) -> str:
    """Return what a norm is called in text and figures: its title in the catalogue."""
    try:
        return lookup(norm).title
    except ValueError:  # of a version that had other norms
        return norm
