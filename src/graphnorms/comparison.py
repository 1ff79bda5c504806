"""Compare normalizations on one data set: the facade over data, trials, verdict and report.

comparison = graphnorms.compare("MUTAG", norms=("none", "batch", "graph"))
print(comparison)
"""

from __future__ import annotations

import html
import io
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.lab import engines, protocol
from graphnorms.lab.protocol import DEFAULT_NORMS, CompareSettings, Plan
from graphnorms.lab.runs import REPORT, Run, default_folder, replacing

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    from rich.console import Console

    from graphnorms.data import GraphSet
    from graphnorms.lab.verdict import Verdict
    from graphnorms.training import Record


def compare(
    dataset: str | Path | GraphSet = "MUTAG",
    *,
    model: str = "gin",
    preset: str = "default",
    norm_place: str | None = None,
    residual: str | None = None,
    norms: Sequence[str] | str = DEFAULT_NORMS,
    folds: int = 10,
    epochs: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
    out: str | Path | None = None,
    progress: Callable[[Status], None] | None = None,
) -> Comparison:
    """Train one model with each normalization on the same folds, and judge the difference.

    Trials run in worker processes with one thread each. What is done is kept in the run's
    folder: the same call after an interruption continues there, and after the end it trains
    nothing and gives the same answer.

    Args:
        dataset: Name of an embedded data set, path of one, or a `GraphSet`.
        model: `"gin"` or `"gcn"`.
        preset: Named architecture and training settings; what is None below comes from it.
        norm_place: Each norm `"before-activation"` or `"after-activation"`.
        residual: Whether every convolution but the first adds its input, and where: `"none"`,
            `"after-norm"` or `"before-norm"`.
        norms: Normalizations as text, or one text with commas in between: catalogue names (see
            `graphnorms.CATALOG`), arguments behind a colon as in `"pair:scale=2"`.
        folds: Stratified folds; each is the validation set once.
        epochs: Passes over the training graphs.
        learning_rate: Adam's step size in the first epoch.
        weight_decay: Adam's L2 penalty.
        batch_size: Graphs in a minibatch.
        seed: Seeds weights, batch order and dropout.
        device: Where the models are trained, e.g. `"cpu"` or `"cuda:0"`.
        workers: Trials at a time; None is one per usable core.
        out: The run's folder; None is `runs/<dataset>-<model>`.
        progress: Called with a `Status` before anything is trained, a few times per second from
            then on, and after the last trial.

    Raises:
        ValueError: A value is not possible, a name is not known, the data set is malformed
            (`DatasetError`), or `out` holds a run with other settings (`RunExistsError`).
        ComparisonInterrupted: Ctrl-C; a `KeyboardInterrupt` that knows what was done.
        OSError: The run's folder cannot be written.
    """
    from graphnorms.data import GraphSet, load_dataset

    if workers is None:
        workers = engines.default_workers(device)
    protocol.require_integer("workers", workers, at_least=1)
    graphs = dataset if isinstance(dataset, GraphSet) else load_dataset(dataset)
    settings = protocol.resolve(
        graphs,
        dataset=graphs.name if isinstance(dataset, GraphSet) else str(dataset),
        norms=norms,
        model=model,
        preset=preset,
        norm_place=norm_place,
        residual=residual,
        folds=folds,
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        batch_size=batch_size,
        seed=seed,
        device=device,
    )
    trials = protocol.trials(settings, graphs)
    folder = default_folder(graphs.name, model, preset) if out is None else Path(out)
    code_and_data = protocol.code_versions() | {"fingerprint": graphs.fingerprint}
    with Run(folder, settings.to_dict() | code_and_data) as run:
        plan = Plan(
            settings=settings,
            dataset=graphs,
            trials=tuple(trials),
            kept=sum(engines.is_settled(run.journal.get(trial.key)) for trial in trials),
            workers=workers,
            folder=folder,
            command=_command(settings, typed=not isinstance(dataset, GraphSet)),
        )
        try:
            _train(plan, run, progress or _say_nothing)
        except KeyboardInterrupt:
            raise ComparisonInterrupted(_comparison(plan, run)) from None
        comparison = _comparison(plan, run)
        comparison.report()
    return comparison


@dataclass(frozen=True, kw_only=True)
class Status:
    """Where a comparison stands.

    Args:
        plan: What is being done.
        records: Outcomes so far, those of earlier calls included, in the order of the plan.
        latest: The outcome that has just come in, if that is why this is told.
        running: Epochs done in each running trial, by the key of its config.
        elapsed: Seconds since this call began to train.
        remaining: Seconds that are left at the speed so far; None until that is known.
    """

    plan: Plan
    records: tuple[Record, ...]
    latest: Record | None
    running: Mapping[str, int]
    elapsed: float
    remaining: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found; printing it, or showing it in a notebook, gives the table.

    Args:
        settings: Everything that was asked for, resolved.
        records: One per trial that has an outcome, in the order of the plan.
        folder: The run's folder.
        command: What repeats it.
    """

    settings: CompareSettings
    records: tuple[Record, ...]
    folder: Path
    command: str

    @cached_property
    def verdict(self) -> Verdict:
        """Which norms lead in accuracy and in speed of training, as far as the folds can tell.

        Raises:
            ValueError: No trial has an outcome.
        """
        from graphnorms.lab.verdict import judge

        return judge(self.records, norms=self.settings.norms)

    @property
    def planned(self) -> int:
        """Trials that the comparison has when it is complete."""
        return len(self.settings.norms) * self.settings.folds

    def table(self, width: int = 80) -> str:
        """Return the leaderboard and the verdict in words, as plain text.

        Args:
            width: Columns at hand.
        """
        return self._exported(width).export_text().rstrip()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per trial: what was tried, how it ended, and the last epoch's values.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise ImportError("to_frame needs pandas: pip install pandas") from None
        return pd.DataFrame([_row(record) for record in self.records])

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report as one HTML page and return where it is.

        Args:
            path: Where to write it; None is `report.html` in the run's folder.

        Raises:
            OSError: It cannot be written.
        """
        from graphnorms.report.page import write_page

        path = self.folder / REPORT if path is None else Path(path)
        with replacing(path) as temporary:
            write_page(temporary, self.records, self.verdict, self.settings.to_dict(), self.command)
        return path

    def to_dict(self) -> dict[str, Any]:
        """Return settings, verdict and where the records are, as JSON-able data."""
        return {
            "settings": self.settings.to_dict(),
            "verdict": self.verdict.to_dict() if self.records else None,
            "trials": {
                "planned": self.planned,
                "done": sum(record.status == "done" for record in self.records),
                "failed": sum(record.status == "failed" for record in self.records),
            },
            "folder": str(self.folder),
            "command": self.command,
        }

    def __repr__(self) -> str:
        return self.table() if self.records else f"Comparison(no trial done, {self.folder})"

    def _repr_html_(self) -> str:
        if not self.records:
            return f"<pre>{html.escape(repr(self))}</pre>"
        return self._exported(100).export_html(
            inline_styles=True, code_format="<pre style='line-height:1.2'>{code}</pre>"
        )

    def _exported(self, width: int) -> Console:
        """A console that has printed this comparison to nowhere but its own memory."""
        from rich.console import Console

        from graphnorms.report.table import leaderboard

        console = Console(file=io.StringIO(), record=True, width=width, force_jupyter=False)
        console.print(leaderboard(self.verdict, width=width))
        console.print(self.verdict.closing, markup=False, highlight=False)
        return console


class ComparisonInterrupted(KeyboardInterrupt):
    """Ctrl-C during a comparison: what is done is kept, and the same call continues.

    Args:
        comparison: What there is; its `records` may be empty.
    """

    def __init__(self, comparison: Comparison) -> None:
        done, planned = len(comparison.records), comparison.planned
        super().__init__(
            f"interrupted: {done} of {planned} trials; run the same command again to continue"
        )
        self.comparison = comparison


def _train(plan: Plan, run: Run, progress: Callable[[Status], None]) -> None:
    """Run the trials that have no outcome yet and keep each record as soon as it is there."""
    from graphnorms.training import run_trial

    todo = [
        config for config in plan.trials if not engines.is_settled(run.journal.get(config.key))
    ]
    clock = _Clock(epochs=plan.settings.epochs * len(todo))
    running: Mapping[str, int] = {}
    ended = 0

    def tell(latest: Record | None = None) -> None:
        clock.note(plan.settings.epochs * ended + sum(running.values()))
        progress(
            Status(
                plan=plan,
                records=_outcomes(plan, run),
                latest=latest,
                running=running,
                elapsed=clock.elapsed,
                remaining=clock.remaining,
            )
        )

    def on_progress(epochs: Mapping[str, int]) -> None:
        nonlocal running
        running = epochs
        tell()

    tell()
    with (
        engines.make_engine(
            "local", run_trial, plan.dataset, workers=min(plan.workers, len(todo))
        ) as engine,
        closing(engine.run(todo, on_progress)) as records,
    ):
        for record in records:
            run.journal.append(record)
            running = {key: epochs for key, epochs in running.items() if key != record.key}
            ended += 1
            tell(record)


_SECONDS_TO_KNOW_THE_SPEED = 2.0


class _Clock:
    """Time passed, and time left at the speed of the epochs so far.

    The speed counts from the first epoch on: before it, processes start and libraries load.
    """

    def __init__(self, epochs: int) -> None:
        self._total = epochs
        self._start = time.monotonic()
        self._first: tuple[float, int] | None = None
        self.elapsed = 0.0
        self.remaining: float | None = None

    def note(self, done: int) -> None:
        """Take notice of how many epochs are done now."""
        now = time.monotonic()
        self.elapsed = now - self._start
        if self._first is None:
            self._first = (now, done) if done else None
            return
        seconds, epochs = now - self._first[0], done - self._first[1]
        if seconds > _SECONDS_TO_KNOW_THE_SPEED and epochs > 0:
            self.remaining = max(0, self._total - done) * seconds / epochs


def _say_nothing(status: Status) -> None:
    pass


def _outcomes(plan: Plan, run: Run) -> tuple[Record, ...]:
    """The records there are, in the order of the plan and not in that in which they came."""
    found = (run.journal.get(config.key) for config in plan.trials)
    return tuple(record for record in found if record is not None)


def _comparison(plan: Plan, run: Run) -> Comparison:
    return Comparison(
        settings=plan.settings,
        records=_outcomes(plan, run),
        folder=plan.folder,
        command=plan.command,
    )


def _command(settings: CompareSettings, *, typed: bool) -> str:
    """Say what repeats a comparison: a command line, or a call if the data came as an object."""
    options = {
        "norms": ",".join(settings.norms),
        "model": settings.model,
        "preset": settings.preset,
        "norm_place": settings.architecture["norm_place"],
        "residual": settings.architecture["residual_place"]
        if settings.architecture["residual"]
        else "none",
        "folds": settings.folds,
        "epochs": settings.epochs,
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "batch_size": settings.batch_size,
        "seed": settings.seed,
        "device": settings.device,
    }
    if typed:
        words = ["graphnorms", "compare", settings.dataset]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        return shlex.join(words)
    options["learning_rate"] = options.pop("lr")
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"graphnorms.compare(dataset, {arguments})"


def _row(record: Record) -> dict[str, Any]:
    """One row of the frame."""
    config = record.config
    return {
        "norm": config["norm"],
        "fold": config["fold"],
        "seed": config["seed"],
        "status": record.status,
        "reason": record.reason,
        **{name: values[-1] for name, values in record.history.items() if values},
        **record.counts,
        "seconds": record.timing.get("total"),
        "key": record.key,
    }
