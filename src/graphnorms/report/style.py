"""The look of a norm: its name, colour, marker and dashes, the same wherever it is shown.

Colours are those of Okabe & Ito, which people with any of the common colour-vision
deficiencies can tell apart; a marker and a dash pattern repeat what the colour says.

Source: Okabe & Ito, Color Universal Design, 2008, https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from graphnorms.lab.option_table import about
from graphnorms.lab.treatments import VARIABLE
from graphnorms.layers.catalog import CATALOG
from graphnorms.layers.spec import parse_spec

NEUTRAL: Final = "#80858C"
"""Of axes, chance and zero: readable on white and on near-black."""

MARKERS: Final = {
    "asterisk": (
        "M-.2-1H.2V1H-.2zM-.78.66L-.96.34L.78-.66L.96-.34zM-.96-.34L-.78-.66L.96.34L.78.66z"
    ),
    "circle": "M-.8 0a.8.8 0 1 0 1.6 0a.8.8 0 1 0-1.6 0z",
    "diamond": "M0-1L.7 0L0 1L-.7 0z",
    "hex": "M-.5-.85H.5L1 0L.5.85H-.5L-1 0z",
    "inverted_triangle": "M-.9-.7H.9L0 .9z",
    "plus": "M-.28-.95H.28V-.28H.95V.28H.28V.95H-.28V.28H-.95V-.28H-.28z",
    "square": "M-.72-.72H.72V.72H-.72z",
    "square_pin": "M-.9-.9Q0-.4.9-.9Q.4 0 .9.9Q0 .4-.9.9Q-.4 0-.9-.9z",
    "star": "M0-1.1L.27-.34H1.05L.43.14L.66.91L0 .46L-.66.91L-.43.14L-1.05-.34H-.27z",
    "triangle": "M-.9.7H.9L0-.9z",
    "triangle_pin": "M-1 .8Q0 .3 1 .8Q.3 0 0-1Q-.3 0-1 .8z",
    "x": "M-.9-.5L-.5-.9L0-.4L.5-.9L.9-.5L.4 0L.9.5L.5.9L0 .4L-.5.9L-.9.5L-.4 0z",
}
"""SVG paths around the origin, about 2 units wide and high."""

DASHES: Final[dict[str, list[float]]] = {
    "solid": [1, 0],
    "dashed": [6, 3],
    "dotted": [1.5, 2.5],
    "dotdash": [1.5, 2.5, 6, 2.5],
}
"""Lengths of strokes and gaps in pixels."""


@dataclass(frozen=True)
class NormStyle:
    """How one norm is shown.

    Args:
        name: Display name.
        color: Hexadecimal, with enough contrast on white and on near-black.
        marker: One of `MARKERS`.
        dash: One of `DASHES`.
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
_TREATMENT_COLORS = (
    *("#2B86C5", "#B79F00", "#D55E00", "#56B4E9", "#009E73", "#9B6FD0", "#CC79A7"),
    *("#6E9B34", "#C25B78", "#3FA7A0", "#E69F00", "#6F82D8", "#B07C52"),
)
"""A prime number of colours: values of two options share few of them."""

_TREATMENT_MARKERS = tuple(MARKERS)


def style_of(norm: str) -> NormStyle:
    """Return the look of a norm.

    The other norms of the catalogue differ in colour or, where there are more norms than colours,
    in marker and dash pattern; for any other text, a hash of it decides.
    """
    if norm in _LOOKS:
        return NormStyle(display_name(norm), *_LOOKS[norm])
    plain, values = _parts(norm)
    if values:
        return _style_of_treatment(plain, values)
    others = [name for name in CATALOG if name not in _LOOKS]
    if norm in others:
        number = others.index(norm)
        round_, color = divmod(number, len(_OTHER_COLORS))
        marker, dash = number + round_, round_
    else:
        number = _hash(norm)
        color, marker, dash = number, number // 16, number // 256
    return NormStyle(
        name=display_name(norm),
        color=_OTHER_COLORS[color % len(_OTHER_COLORS)],
        marker=_OTHER_MARKERS[marker % len(_OTHER_MARKERS)],
        dash=_OTHER_DASHES[dash % len(_OTHER_DASHES)],
    )


def _style_of_treatment(norm: str, values: list[str]) -> NormStyle:
    """Return the look of a norm with values of options: values give the colour.

    Numbers that are doubled, and words of one option, have colours of their own; the norm moves
    marker and dash, so that treatments with the same values differ as well.
    """
    number = sum(_place(value) * 5**place for place, value in enumerate(values))
    norms = [*_LOOKS, *(name for name in CATALOG if name not in _LOOKS)]
    moved = norms.index(norm) if norm in norms else _hash(norm)
    return NormStyle(
        name=display_name(" ".join((norm, *values))),
        color=_TREATMENT_COLORS[number % len(_TREATMENT_COLORS)],
        marker=_TREATMENT_MARKERS[(number + moved) % len(_TREATMENT_MARKERS)],
        dash=_OTHER_DASHES[(number + moved) % len(_OTHER_DASHES)],
    )


def _place(value: str) -> int:
    """Return a number for a value: of words their place, of a number twice its binary logarithm."""
    option, _, text = value.partition("=")
    words = about(option).words if option in VARIABLE else ()
    if text in words:
        return words.index(text)
    try:
        return round(2 * math.log2(float(text))) if float(text) > 0 else 0
    except ValueError:
        return _hash(text)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def _parts(treatment: str) -> tuple[str, list[str]]:
    """Split the name of a treatment into its norm and the values of options."""
    norm, *values = re.split(rf" (?=(?:{'|'.join(VARIABLE)})=)", treatment)
    return norm, values


def display_name(norm: str) -> str:
    """Return what a norm is called in text and figures: its title in the catalogue.

    Of a treatment with the values of options behind it.
    """
    plain, values = _parts(norm)
    row = CATALOG.get(plain.partition(":")[0])
    if row is None:  # a norm of the user's, or of a version that had others
        return norm
    return " ".join((row.titled(parse_spec(plain)[1]), *values))


def swatch(norm: str) -> Markup:
    """Return the line and the marker of a norm as a small SVG, for legends and tables."""
    style = style_of(norm)
    return Markup(
        '<svg class="swatch" viewBox="-13 -6 26 12" aria-hidden="true">'
        '<path d="M-13 0H13" stroke="{0}" stroke-width="2" stroke-dasharray="{1}"/>'
        '<path d="{2}" transform="scale(4.5)" fill="{0}"/></svg>'
    ).format(style.color, _dash_array(DASHES[style.dash]), MARKERS[style.marker])


def _dash_array(lengths: Iterable[float]) -> str:
    return " ".join(f"{length:g}" for length in lengths)


CHANCE_DASH: Final = (2, 3)

CHANCE: Final = Markup(
    '<svg class="swatch" viewBox="-13 -6 26 12" aria-hidden="true">'
    '<path d="M-13 0H13" stroke="{}" stroke-width="2" stroke-dasharray="{}"/></svg>'
).format(NEUTRAL, _dash_array(CHANCE_DASH))
"""The line of the trivial predictor, as figures draw it."""
