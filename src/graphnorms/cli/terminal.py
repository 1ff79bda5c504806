"""The console of the command line, and what the commands print alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment
from rich.table import Table

from graphnorms.errors import printable


def terminal(**options: Any) -> Console:
    """Make a console that escapes control characters in names and messages.

    Args:
        options: Those of rich's `Console`.
    """
    console = Console(**options)
    console.push_render_hook(_Escape())
    return console


def say(console: Console, text: str) -> None:
    """Print text as it is: without markup, and without breaking lines (paths, commands)."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def plain_table(*headings: Any) -> Table:
    """Make a table without lines; without headings it has columns only."""
    table = Table(
        *headings, box=None, pad_edge=False, show_header=bool(headings), header_style="bold"
    )
    table.padding = (0, 2, 0, 0)
    return table


class _Escape(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Wrap what is to be printed."""
        return [_Escaped(each) for each in renderables]


class _Escaped:
    def __init__(self, content: ConsoleRenderable) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self._content, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)
