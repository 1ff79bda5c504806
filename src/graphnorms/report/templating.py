"""Jinja templates of the pages, and the filters and scripts that all pages use."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from graphnorms.report.chart import Panel, javascript
from graphnorms.report.labels import subject
from graphnorms.report.style import display_name, swatch

_TEMPLATES = Path(__file__).parent / "templates"


def template(name: str, filters: Mapping[str, Callable[..., Any]] | None = None) -> Template:
    """Return a template that escapes every value; a variable without a value is an error.

    Args:
        name: File of the template.
        filters: Added to `name` and `swatch` of a norm, `p` of a p-value and `subject` of a
            paragraph.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        # `Markup` is our own; every other string comes from outside.
        finalize=lambda value: without_home(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": display_name,
        "subject": subject,
        "swatch": swatch,
        "p": _p_value,
        **(filters or {}),
    }
    return environment.get_template(name)


def _p_value(p: float | None) -> str:
    return "–" if p is None else "<.001" if p < 0.001 else f"{p:.3f}"


def without_home(text: str) -> str:
    """Replace the home folder by `~`: pages are shared, and its path names the user."""
    home = os.path.expanduser("~").rstrip(os.sep)
    return re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w.-])", "~", text) if len(home) > 1 else text


def chunks(command: str) -> list[str]:
    """Split a command or a call where a line may break: never between an option and its value."""
    return re.split(r" (?=--\w)|(?<=,) (?=\w+=)", command)


def raw(name: str) -> Markup:
    """Return a style sheet or a script unescaped."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))


def charts(panels: Mapping[str, Panel]) -> dict[str, Markup]:
    """Return what draws panels in the places of their names: library, specifications, script."""
    specs = {place: panel.on_page() for place, panel in panels.items()}
    text = json.dumps(specs, separators=(",", ":"), allow_nan=False)
    return {
        "library": Markup(javascript()),
        # `</script>` and `<!--` would end the element.
        "specs": Markup(text.replace("<", "\\u003c")),
        "script": raw("page.js"),
    }
