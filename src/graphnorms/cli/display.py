"""The output of a comparison while it runs.

A terminal gets a live table; a pipe, a file or a dumb terminal gets one line per trial.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from graphnorms.cli.judgement_view import show_judgement
from graphnorms.cli.terminal import by_subject
from graphnorms.lab.judgement import Judgement
from graphnorms.lab.number_format import Scale
from graphnorms.lab.phrases import duration
from graphnorms.lab.plan_sentences import kept_lines, plan_lines
from graphnorms.lab.progress import Tally, trial_line
from graphnorms.report.style import style_of
from graphnorms.training import metric_named

if TYPE_CHECKING:
    from graphnorms.lab.comparison import Comparison
    from graphnorms.lab.progress import Status

_ROOM_FOR_BARS = 60  # columns


class Display:
    """Show a comparison on a console; call it with each `Status`.

    Args:
        console: The output.
        quiet_in_pipes: Show nothing unless the output is a terminal.
        quiet: Show nothing but the verdict's headline.
        verbose: Show a line per trial on a terminal as well, above the table.
    """

    def __init__(
        self,
        console: Console,
        *,
        quiet_in_pipes: bool = False,
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self.console = console
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal and not quiet:
            self._live = Live(console=console, auto_refresh=False, transient=True)
        self._silent = quiet or (quiet_in_pipes and not console.is_terminal)
        self._quiet = quiet
        self._verbose = verbose
        self._planned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, status: Status) -> None:
        """Show the progress."""
        if self._silent:
            return
        if not self._planned:
            self._planned = True
            total = status.plan.settings.planned
            kept = kept_lines(status.plan.folder, status.changes, status.ended, total)
            self.console.print(by_subject(plan_lines(status.plan)))
            for line in kept:
                self._print(line)
            if self._live is not None:
                self._live.start()
        if status.latest is not None and (self._live is None or self._verbose):
            self._print(trial_line(status, status.latest), whole=True)
        if self._live is not None:
            self._live.update(progress_table(status, self.console.width), refresh=True)

    def show_outcome(self, comparison: Comparison) -> None:
        """Show the verdict in words, the table, and where everything lies."""
        if comparison.records:
            show_judgement(
                self.console, Judgement.of(comparison), comparison.folder, quiet=self._quiet
            )

    def _print(self, text: str, *, whole: bool = False) -> None:
        """Print text without markup; `whole`: without breaking lines (paths, trials)."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=whole)


def progress_table(status: Status, width: int) -> Group:
    """Draw a row per norm (how far it is, its mean score so far) and a line of times."""
    settings = status.plan.settings
    each = settings.planned // len(settings.treatments)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(settings.noun)
    if width >= _ROOM_FOR_BARS:
        table.add_column("", ratio=1)
    table.add_column("trials", justify="right")
    table.add_column(
        f"{'validation' if settings.protocol == 'paper' else 'test'} {settings.metric}",
        justify="right",
    )
    for norm in settings.treatments:
        tally = status.tallies.get(norm, Tally())
        cells: list[Text | ProgressBar] = [Text(norm, style=f"bold {style_of(norm).color}")]
        if width >= _ROOM_FOR_BARS:
            color = style_of(norm).color
            cells.append(
                ProgressBar(
                    total=settings.epochs_of_norm,
                    completed=status.epochs.get(norm, 0),
                    complete_style=color,
                    finished_style=color,
                )
            )
        cells.append(Text(f"{tally.ended}/{each}"))
        text = "–" if tally.mean is None else _scale(status, tally.mean).score(tally.mean)
        cells.append(Text(text + (f", {tally.failed} failed" if tally.failed else "")))
        table.add_row(*cells)
    return Group(table, Text(_times(status), style="dim"))


def _scale(status: Status, value: float) -> Scale:
    settings = status.plan.settings
    return Scale.fitting(metric_named(settings.metric), value, settings.unit)


def _times(status: Status) -> str:
    done, total = status.ended, status.plan.settings.planned
    what = "trials"
    if status.tests[1]:
        (done, total), what = status.tests, "trials that test reasons"
    if done == total:
        return f"{total} {what} in {duration(status.elapsed)}; writing the report"
    left = "measuring the speed"
    if status.remaining is not None:
        left = f"about {duration(status.remaining)} left"
    return (
        f"{done} of {total} {what}, {duration(status.elapsed)} passed, {left}; "
        "Ctrl-C keeps what is done"
    )
