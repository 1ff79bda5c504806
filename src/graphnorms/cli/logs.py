"""What a command says while it works: on the console by -v and -q, and in a file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.console import Console

from graphnorms.cli.option_parameters import PANELS
from graphnorms.errors import one_line

LogFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--log-file",
        help="Add to this file what happens, with times: every trial, deaths of workers, errors.",
        show_default=False,
        rich_help_panel=PANELS["output"],
    ),
]
Verbose: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Say more: a line for every trial.",
        rich_help_panel=PANELS["output"],
    ),
]
Quiet: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Say the verdict only, and errors.", rich_help_panel=PANELS["output"]
    ),
]


@contextmanager
def logs(
    console: Console, file: str | None = None, *, verbose: bool = False, quiet: bool = False
) -> Iterator[None]:
    """Show the messages of the logger `graphnorms` while the block runs.

    Warnings are shown on the console: with `verbose` information as well, with `quiet` errors
    alone. What a display shows itself is not repeated. The file gets everything.

    Raises:
        ValueError: Both `verbose` and `quiet` are set.
        OSError: The file cannot be written.
    """
    if verbose and quiet:
        raise ValueError("--verbose and --quiet say the opposite; give one of them")
    logger = logging.getLogger("graphnorms")
    shown = _OnConsole(console)
    shown.setLevel(logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING)
    handlers: list[logging.Handler] = [shown]
    if file is not None:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        written = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
        written.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        handlers.append(written)
    level, propagates, others = logger.level, logger.propagate, logger.handlers[:]
    logger.setLevel(shown.level if file is None else logging.DEBUG)
    logger.propagate = False
    logger.handlers[:] = handlers
    try:
        yield
    except BaseException as error:
        logger.error("%s", one_line(error), extra={"displayed": True})
        raise
    finally:
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagates, others
        for handler in handlers:
            handler.close()


class _OnConsole(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message, unless a display shows it."""
        if not getattr(record, "displayed", False):
            text = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
            self._console.print(
                f"{text}{record.getMessage()}", markup=False, highlight=False, soft_wrap=True
            )
