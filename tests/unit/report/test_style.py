from __future__ import annotations

import pytest

from graphnorms.layers import names
from graphnorms.report.style import display_name, style_of, swatch
from graphnorms.studies.drawing import look_of

STYLES = [style_of(name) for name in names()]


def test_every_norm_looks_different() -> None:
    assert len({style.name for style in STYLES}) == len(STYLES)
    # There are more norms than colours that can be told apart.
    assert len({(style.color, style.marker, style.dash) for style in STYLES}) == len(STYLES)
    first = STYLES[:6]  # those that are compared most
    for attribute in ("color", "marker"):
        assert len({getattr(style, attribute) for style in first}) == len(first)


@pytest.mark.parametrize("background", ["#fdfcfa", "#15171b"])
def test_every_color_stands_out_on_both_papers(background: str) -> None:
    for style in STYLES:
        assert contrast(style.color, background) > 2.1, style


def test_every_norm_is_drawn_as_it_looks_in_tables_and_in_matplotlib() -> None:
    drawings = set()
    for name in [*names(), *(f"norm {number}" for number in range(50))]:
        style, look, drawing = style_of(name), look_of(name), str(swatch(name))
        assert look["color"] == style.color
        assert drawing.count(style.color) == 2, "the line and the marker"
        drawings.add(drawing)
    assert len(drawings) >= len(names())


def test_an_unknown_norm_always_looks_the_same() -> None:
    assert style_of("my-norm") == style_of("my-norm")
    assert display_name("my-norm") == "my-norm"
    assert len({style_of(f"norm {number}") for number in range(50)}) == 50


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    channels = (int(color[place : place + 2], 16) / 255 for place in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
