"""What a comparison found, on a terminal: at its end, and when it is shown again."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from graphnorms.cli.terminal import say
from graphnorms.lab.judgement import Judgement
from graphnorms.lab.run import RECORDS, REPORT
from graphnorms.report.pairs_table import pairs
from graphnorms.report.pictures import folder_beside
from graphnorms.report.table import MOST_SAID, details, explained, headline, leaderboard


def show_judgement(
    console: Console,
    found: Judgement,
    folder: Path,
    *,
    in_full: bool = False,
    quiet: bool = False,
) -> None:
    """Show the verdict in words, the table, and where everything lies.

    For five norms that fits a terminal of 24 lines.

    Args:
        console: The output.
        found: What was found.
        folder: The run's.
        in_full: Whether the details are shown as well.
        quiet: Show nothing but the verdict's headline.
    """
    verdict = found.verdict
    if quiet:
        if verdict is not None:
            console.print(headline(verdict))
        return
    console.print()
    if verdict is None:
        say(console, "No trial that scores come from is done yet.")
    else:
        plain = not (console.encoding or "").lower().startswith("utf")
        parts = [headline(verdict), leaderboard(verdict, width=console.width, plain=plain)]
        if in_full and verdict.conclusive:
            parts.append(pairs(verdict, width=console.width, plain=plain))
        if in_full:
            parts.append(details(verdict))
        if found.why:
            parts.append(explained(found.why, MOST_SAID if in_full else 2))
        for part in parts:
            console.print(part)
            console.print()
    if found.lost:
        console.print(
            f"{found.lost} {'trial' if found.lost == 1 else 'trials'} lost the worker process or "
            "ran out of memory or time; the same command tries again.",
            markup=False,
            highlight=False,
        )
    report = folder / REPORT
    if report.exists():
        say(console, f"report:  {report}")
    if in_full and folder_beside(report).exists():
        say(console, f"figures: {folder_beside(report)}")
    if in_full or not report.exists():
        say(console, f"records: {folder / RECORDS}")
