"""What all figures of matplotlib have in common: the style sheet, the look of a norm, the files."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from graphnorms.files import replacing
from graphnorms.report.style import style_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE: Final = "graphnorms.report.graphnorms"
"""The style sheet, as `matplotlib.style.use` takes it."""

DPI: Final = 160

_MARKERS: Final[dict[str, Any]] = {
    "asterisk": (8, 2, 0), "circle": "o", "diamond": "D", "hex": "h", "inverted_triangle": "v",
    "plus": "P", "square": "s", "square_pin": "p", "star": "*", "triangle": "^",
    "triangle_pin": "<", "x": "X",
}  # fmt: skip
_DASHES: Final = {"solid": "-", "dashed": "--", "dotted": ":", "dotdash": "-."}


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures are drawn, and saved, in the common style.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib.style
    except ImportError:
        raise ImportError("figures need matplotlib: pip install 'graphnorms[lab]'") from None
    # From the defaults on, so that a user's own style changes nothing.
    return matplotlib.style.context(STYLE, after_reset=True)


def look_of(norm: str) -> dict[str, Any]:
    """Return how a norm is drawn everywhere: arguments of `Axes.plot`, its name as the label."""
    style = style_of(norm)
    return {
        "color": style.color,
        "marker": _MARKERS[style.marker],
        "linestyle": _DASHES[style.dash],
        "label": literal(style.name),
    }


def literal(text: str) -> str:
    """Return text that matplotlib shows as it is: between dollar signs it would see a formula."""
    return text.replace("$", r"\$")


def as_bytes(figure: Figure, form: str) -> bytes:
    """Return a figure as `"svg"` or `"png"`, without dates: equal numbers give equal bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    with styled():
        figure.savefig(buffer, format=form, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def write(figure: Figure, path: Path) -> tuple[Path, Path]:
    """Write a figure as SVG and as PNG.

    Args:
        figure: What to write.
        path: Where to; the suffix is replaced by `.svg` and `.png`.

    Returns:
        The two files.

    Raises:
        OSError: A file cannot be written.
    """
    svg, png = path.with_suffix(".svg"), path.with_suffix(".png")
    for file in (svg, png):
        data = as_bytes(figure, file.suffix[1:])
        with replacing(file) as temporary:
            temporary.write_bytes(data)
    return svg, png
