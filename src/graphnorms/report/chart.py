"""What a figure is: panels in Vega-Lite, shown on a page and in a notebook, written as files.

A panel is one specification in Vega-Lite. The page draws it with the JavaScript that vl-convert
bundles, and vl-convert turns it into SVG, PNG and PDF, all without a network or a browser.
Tried on the learning curves: the specification as plain data needs no package but vl-convert and
makes a page of 1.0 MB; Vega-Altair adds seven packages to write the same; Plotly makes 4.9 MB and
needs Chrome to write a file; SVG of our own would need scales, ticks and legends by hand, once in
Python and once more in JavaScript where axes are switched.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from graphnorms.errors import unknown_name
from graphnorms.files import replacing
from graphnorms.report.style import NEUTRAL

Spec: TypeAlias = dict[str, Any]
"""A piece of a specification, see https://vega.github.io/vega-lite/docs."""

SUFFIXES: Final = (".svg", ".png", ".pdf")
_PANEL_WIDTH: Final = 300  # pixels in a file with two panels beside each other

CONFIG: Final[Spec] = {
    "aria": False,  # the page says in words what a figure shows
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif",
    "view": {"stroke": None},
    "axis": {
        "domainColor": NEUTRAL,
        "gridColor": NEUTRAL,
        "gridOpacity": 0.25,
        "labelColor": NEUTRAL,
        "labelFontSize": 12,
        "labelOverlap": True,
        "labelSeparation": 6,
        "tickColor": NEUTRAL,
        "titleColor": NEUTRAL,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "text": {"color": NEUTRAL, "fontSize": 12},
}
_FILE: Final[Spec] = CONFIG | {
    "background": "white",
    "font": "'DejaVu Sans', 'Liberation Sans', Arial, sans-serif",  # the first one has a star
    "padding": 8,
    "axis": CONFIG["axis"] | {"labelColor": "#3A3D42", "titleColor": "#3A3D42"},
}


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One chart.

    Args:
        name: Its place on the page.
        words: What it shows, for those who do not see it.
        spec: A layered specification without a width.
        controls: Layers that only a page has: values under the pointer, zoom.
    """

    name: str
    words: str
    spec: Spec
    controls: tuple[Spec, ...] = ()

    def on_page(self) -> Spec:
        """Return the specification that fills its place on a page."""
        return {
            **self.spec,
            "layer": [*self.spec["layer"], *self.controls],
            "width": "container",
            "autosize": {"type": "fit-x", "contains": "padding"},
            "params": [HIDDEN],
            "config": CONFIG | {"background": "transparent"},
        }


HIDDEN: Final[Spec] = {"name": "hidden", "value": []}
"""The norms that are switched off."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels that belong together.

    Args:
        name: As files call it.
        panels: In reading order, two in a row.
        legend: What says in a file which norm is which, a panel below the others; None where
            rows have names.
    """

    name: str
    panels: tuple[Panel, ...]
    legend: Spec | None = None

    @property
    def spec(self) -> Spec:
        """The figure as a file shows it: one specification in Vega-Lite.

        `altair.Chart.from_dict` reads it.
        """
        width = _PANEL_WIDTH if len(self.panels) > 1 else 2 * _PANEL_WIDTH
        panels = {"columns": 2, "concat": [panel.spec | {"width": width} for panel in self.panels]}
        below = [] if self.legend is None else [self.legend | {"width": 2 * _PANEL_WIDTH}]
        return {
            "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
            "vconcat": [panels, *below],
            "params": [HIDDEN],
            "config": _FILE,
        }

    def save(self, path: str | Path) -> Path:
        """Write the figure as SVG, PNG or PDF, by the suffix.

        Equal numbers give equal bytes.

        Raises:
            ValueError: The path has another suffix.
            ImportError: vl-convert is not installed.
            OSError: The file cannot be written.
        """
        path = Path(path)
        if path.suffix not in SUFFIXES:
            raise unknown_name("suffix", path.suffix, SUFFIXES)
        data = _rendered(self.spec, path.suffix)
        with replacing(path) as temporary:
            temporary.write_bytes(data)
        return path

    def _repr_mimebundle_(self, **_: object) -> dict[str, object]:
        """Give a notebook the interactive chart, and a picture where it has no Vega."""
        return {
            "application/vnd.vegalite.v6+json": self.spec,
            "image/png": _rendered(self.spec, ".png"),
        }


def _rendered(spec: Spec, suffix: str) -> bytes:
    convert = _vl_convert()
    # The converter may load nothing.
    options: Mapping[str, Any] = {"vl_spec": spec, "allowed_base_urls": []}
    makers: dict[str, Callable[[], bytes]] = {
        ".svg": lambda: convert.vegalite_to_svg(**options).encode(),
        ".png": lambda: convert.vegalite_to_png(**options, scale=2),
        ".pdf": lambda: _in_order(convert.vegalite_to_pdf(**options)),
    }
    return makers[suffix]()


_RESOURCES: Final = re.compile(rb"<<(?:\s+/\w+ \d+ 0 R){2,}\s+>>")
_RESOURCE: Final = re.compile(rb"\s+/\w+ \d+ 0 R")


def _in_order(pdf: bytes) -> bytes:
    """Sort the resources of the pages of a PDF, which vl-convert lists in random order.

    No byte outside these lists moves, so that the table of contents of the file stays right.
    """

    def ordered(found: re.Match[bytes]) -> bytes:
        entries = _RESOURCE.findall(found[0])
        return found[0].replace(b"".join(entries), b"".join(sorted(entries)))

    return _RESOURCES.sub(ordered, pdf)


@cache
def javascript() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script.

    Raises:
        ImportError: vl-convert is not installed.
    """
    process, found = start_bundling()
    failed = process.wait()  # after Ctrl-C here the next call waits again
    with found:
        if failed:
            start_bundling.cache_clear()  # vl-convert may be there at the next call
            raise ImportError(_MISSING if find_spec("vl_convert") is None else _FAILED)
        found.seek(0)
        return found.read().decode().replace("</script", "<\\/script")


@cache
def start_bundling() -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start to bundle what `javascript` returns, in another process.

    The bundler is a JavaScript engine, which takes 100 MiB of a process and keeps a part of them.
    """
    found = tempfile.TemporaryFile()  # noqa: SIM115, read when the process has ended
    process = subprocess.Popen(
        # Without -P a json.py where the command runs would be imported.
        [sys.executable, "-P", "-c", _BUNDLE, json.dumps(sys.path, default=str)],
        stdin=subprocess.DEVNULL,
        stdout=found,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C ends a run, which then writes its page
    )
    return process, found


_BUNDLE: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); import vl_convert; "
    "sys.stdout.buffer.write(vl_convert.javascript_bundle().encode())"
)
_MISSING: Final = "figures need vl-convert: pip install 'graphnorms[lab]'"
_FAILED: Final = (
    "vl-convert does not bundle Vega; see why: "
    "python -c 'import vl_convert; vl_convert.javascript_bundle()'"
)


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise ImportError(_MISSING) from None
    return vl_convert
