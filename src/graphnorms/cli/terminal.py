"""The console of the command line, and what the commands print alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from graphnorms.errors import printable

_SUBJECT: Final = 14  # characters


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


def by_subject(lines: Iterable[str]) -> Table:
    """Make a table of lines such as `model: GIN of 4 × 64`, their subjects in front.

    What begins with no short subject continues the line before.
    """
    table = Table(box=None, pad_edge=False, show_header=False, highlight=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        subject, colon, text = line.partition(": ")
        is_one = bool(colon) and len(subject) <= _SUBJECT
        table.add_row(*map(Text, (subject, text) if is_one else ("", line)))
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
