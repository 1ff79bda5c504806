"""What a comparison shows while it runs and when it ends.

On a terminal a display that is drawn anew in place; in a pipe, a file or a terminal that cannot
do that, one line per trial.
"""

from __future__ import annotations

from collections import defaultdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from graphnorms.lab import wording
from graphnorms.lab.engines import is_settled
from graphnorms.lab.runs import RECORDS, REPORT
from graphnorms.report.style import style_of
from graphnorms.report.table import leaderboard

if TYPE_CHECKING:
    from graphnorms.comparison import Comparison, Status
    from graphnorms.lab.protocol import Plan
    from graphnorms.training import Record

_ROOM_FOR_BARS = 60  # columns


class Display:
    """Show a comparison on a console; call it with each `Status`.

    Args:
        console: Where to.
        quiet_in_pipes: Show nothing unless somebody sits at a terminal.
    """

    def __init__(self, console: Console, *, quiet_in_pipes: bool = False) -> None:
        self.console = console
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)
        self._silent = quiet_in_pipes and not console.is_terminal
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
        """Show where the comparison stands."""
        if self._silent:
            return
        if not self._planned:
            self._planned = True
            self._print("\n".join(plan_lines(status.plan)))
            if self._live is not None:
                self._live.start()
        if self._live is not None:
            self._live.update(progress_table(status, self.console.width), refresh=True)
        elif status.latest is not None:
            self._print(trial_line(status, status.latest))

    def show_outcome(self, comparison: Comparison) -> None:
        """Show the table, the verdict in words, and where everything lies."""
        if not comparison.records:
            return
        verdict = comparison.verdict
        plain = not (self.console.encoding or "").lower().startswith("utf")
        self._print("")
        self.console.print(leaderboard(verdict, width=self.console.width, plain=plain))
        self._print(f"\n{verdict.closing}\n")
        lost = sum(not is_settled(record) for record in comparison.records)
        if lost:
            self._print(
                f"{lost} {'trial' if lost == 1 else 'trials'} lost the worker process; "
                "the same command tries again.\n"
            )
        report = comparison.folder / REPORT
        if report.exists():
            self._print(f"report:  {report}", whole=True)
        self._print(f"records: {comparison.folder / RECORDS}", whole=True)

    def _print(self, text: str, *, whole: bool = False) -> None:
        """Print text as it is; `whole`: without breaking lines, as paths must not be."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=whole)


def plan_lines(plan: Plan) -> list[str]:
    """Say what is going to be done."""
    graphs, settings = plan.dataset, plan.settings
    count = len(graphs)
    classes = " / ".join(map(str, graphs.class_counts))
    design = wording.design(
        norms=len(settings.norms), folds=settings.folds, detectable=plan.detectable
    )
    total = len(plan.trials)
    lines = [
        f"{graphs.name}: {count} graphs of {graphs.num_nodes / count:.1f} nodes and "
        f"{graphs.num_edges / count:.1f} directed edges on average; {graphs.num_classes} classes "
        f"({classes} graphs); {graphs.num_features} features ({graphs.features})",
        f"{settings.model.upper()}, preset {settings.preset}: {settings.epochs} "
        f"epoch{'s' * (settings.epochs > 1)}, "
        f"learning rate {settings.learning_rate:g} ({settings.schedule}), "
        f"weight decay {settings.weight_decay:g}, batches of {settings.batch_size} graphs",
        f"{len(settings.norms)} norms ({', '.join(settings.norms)}) × {settings.folds} folds = "
        f"{total} trials, {plan.workers} at a time on {settings.device}; kept in {plan.folder}",
        design,
    ]
    if plan.kept == total:
        lines.append(f"All {total} trials are done already.")
    elif plan.kept:
        lines.append(f"{plan.kept} of the {total} trials are done already and are kept.")
    return lines


def trial_line(status: Status, record: Record) -> str:
    """Say on one line how a trial ended, for outputs that are not drawn anew."""
    total = len(status.plan.trials)
    place = f"{len(status.records):{len(str(total))}}/{total}"
    accuracy = last_accuracy(record)
    outcome = f"failed: {record.reason}" if accuracy is None else f"{accuracy:6.1%}"
    width = max(map(len, status.plan.settings.norms))
    line = f"{place}  fold {record.config['fold']:2}  {record.config['norm']:{width}}  {outcome}"
    left = "" if status.remaining is None else f"  {duration(status.remaining)} left"
    return line + left


def progress_table(status: Status, width: int) -> Group:
    """Draw a row per norm (how far it is, its mean accuracy so far) and a line of times."""
    settings = status.plan.settings
    records: dict[str, list[Record]] = defaultdict(list)
    for record in status.records:
        records[record.config["norm"]].append(record)
    running: dict[str, int] = defaultdict(int)
    for config in status.plan.trials:
        running[config.norm] += status.running.get(config.key, 0)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("norm")
    if width >= _ROOM_FOR_BARS:
        table.add_column("", ratio=1)
    table.add_column("folds", justify="right")
    table.add_column("validation", justify="right")
    for norm in settings.norms:
        ended = records[norm]
        cells: list[Text | ProgressBar] = [Text(norm, style=f"bold {style_of(norm).color}")]
        if width >= _ROOM_FOR_BARS:
            epochs = settings.epochs * len(ended) + running[norm]
            color = style_of(norm).color
            cells.append(
                ProgressBar(
                    total=settings.epochs * settings.folds,
                    completed=epochs,
                    complete_style=color,
                    finished_style=color,
                )
            )
        accuracies = [value for value in map(last_accuracy, ended) if value is not None]
        failed = len(ended) - len(accuracies)
        cells.append(Text(f"{len(ended)}/{settings.folds}"))
        mean = f"{sum(accuracies) / len(accuracies):.1%}" if accuracies else "–"
        cells.append(Text(mean + (f", {failed} failed" if failed else "")))
        table.add_row(*cells)
    return Group(table, Text(_times(status), style="dim"))


def _times(status: Status) -> str:
    done, total = len(status.records), len(status.plan.trials)
    if done == total:
        return f"{total} trials in {duration(status.elapsed)}; writing the report"
    left = "measuring the speed"
    if status.remaining is not None:
        left = f"about {duration(status.remaining)} left"
    return (
        f"{done} of {total} trials, {duration(status.elapsed)} passed, {left}; "
        "Ctrl-C keeps what is done"
    )


def last_accuracy(record: Record) -> float | None:
    """Validation accuracy after the last epoch; None for a trial that failed."""
    values = record.history.get("validation_accuracy")
    return values[-1] if values and record.status == "done" else None


def duration(seconds: float) -> str:
    """Write a time as on a stopwatch: `1:05`, `2:00:00`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
