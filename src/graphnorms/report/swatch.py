"""The look of a norm as a small drawing, for legends and tables: its line and its marker."""

from __future__ import annotations

from typing import Final

from markupsafe import Markup

from graphnorms.report.style import style_of

# Around the origin, about as wide as high; what has no surface is a stroke.
_FILLED: Final = {
    "circle": "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0",
    "diamond": "M0-4.4L3 0L0 4.4L-3 0z",
    "hex": "M-2.1-3.6H2.1L4.2 0L2.1 3.6H-2.1L-4.2 0z",
    "inverted_triangle": "M-4-3H4L0 4z",
    "square": "M-3.2-3.2H3.2V3.2H-3.2z",
    "square_pin": "M-4-4Q0-1.6 4-4Q1.6 0 4 4Q0 1.6-4 4Q-1.6 0-4-4z",
    "star": "M0-4.8L1.2-1.5H4.6L1.9.6L2.9 4L0 2L-2.9 4L-1.9.6L-4.6-1.5H-1.2z",
    "triangle": "M-4 3H4L0-4z",
    "triangle_pin": "M-4.4 3.4Q0 1.4 4.4 3.4Q1.4 0 0-4.6Q-1.4 0-4.4 3.4z",
}
_STROKES: Final = {
    "asterisk": "M-4 0H4M-2-3.5L2 3.5M-2 3.5L2-3.5",
    "plus": "M-4 0H4M0-4V4",
    "x": "M-3-3L3 3M-3 3L3-3",
}
_DASHES: Final = {"solid": "", "dashed": "5 3", "dotted": "1.5 2.5", "dotdash": "1.5 2.5 5 2.5"}


CHANCE: Final = Markup(
    '<svg class="swatch" viewBox="-13 -6 26 12" aria-hidden="true">'
    '<path d="M-13 0H13" stroke="#80858C" stroke-width="2" stroke-dasharray="2 3"/></svg>'
)
"""The line of the trivial predictor, as figures draw it."""


def swatch(norm: str) -> Markup:
    """Return the line and the marker of a norm as SVG."""
    style = style_of(norm)
    if style.marker in _FILLED:
        marker = Markup('<path d="{}" fill="{}"/>').format(_FILLED[style.marker], style.color)
    else:
        marker = Markup('<path d="{}" fill="none" stroke="{}" stroke-width="1.8"/>').format(
            _STROKES[style.marker], style.color
        )
    return Markup(
        '<svg class="swatch" viewBox="-13 -6 26 12" aria-hidden="true">'
        '<path d="M-13 0H13" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>{}</svg>'
    ).format(style.color, _DASHES[style.dash], marker)
