"""The outcome of a comparison: its records, its verdict, and what is written from them."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.errors import GraphnormsError
from graphnorms.files import require_suffix
from graphnorms.lab.agenda import Agenda
from graphnorms.lab.repeat import command_of
from graphnorms.lab.run import CONFIG, REPORT, read_config
from graphnorms.lab.run_list import open_run, settings_of, tests_among
from graphnorms.lab.schedule import CodeVersions, Schedule
from graphnorms.lab.settings import Settings
from graphnorms.lab.sources import load_again
from graphnorms.lab.trivial import Trivial

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from graphnorms.data import GraphSet
    from graphnorms.lab.phrases import Name
    from graphnorms.lab.reasons import Reason, Why
    from graphnorms.lab.trials import Trials
    from graphnorms.lab.verdict import Verdict
    from graphnorms.report.chart import Figure
    from graphnorms.training import Record


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found; printing it, or showing it in a notebook, gives the table.

    Args:
        settings: The resolved options.
        records: One per trial that has an outcome, in the order of the plan.
        folder: The run's folder.
        command: The command, or call, that repeats it.
        dataset: The graphs, if they are in memory.
        factory: The function that makes the model, if it came as an object.
        norm_functions: The functions that make norms, by name, if they came as objects.
        trivial: The scores of the trivial predictor, if the run has them.
        tests: The trials that test reasons, by key; no verdict depends on them.
        facts: Facts of the data that reasons use, by name.
    """

    settings: Settings
    records: tuple[Record, ...]
    folder: Path
    command: str
    dataset: GraphSet | None = field(default=None, repr=False)
    factory: Callable[..., Any] | None = field(default=None, repr=False)
    norm_functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict, repr=False)
    trivial: Trivial | None = field(default=None, repr=False)
    tests: Mapping[str, Record] = field(default_factory=dict, repr=False)
    facts: Mapping[str, float] = field(default_factory=dict, repr=False)

    @cached_property
    def verdict(self) -> Verdict:
        """Which norms lead in score and in speed of training.

        Raises:
            ValueError: No trial that is reported has an outcome.
        """
        from graphnorms.lab.judge import Terms, judge

        settings = self.settings
        paper = settings.protocol == "paper"  # the scored trials are among those that choose
        terms = Terms(
            baseline=settings.baseline,
            noun=settings.noun,
            margin=settings.margin,
            planned=settings.scored_trials,
            selection=settings.reported_trials if paper else settings.selection_trials,
            repeats=settings.repeats,
            unit=settings.unit,
            trivial=self.trivial,
        )
        return judge(self.trials, terms)

    @cached_property
    def trials(self) -> Trials:
        """The records by norm and by what they are for.

        Raises:
            ValueError: No trial has an outcome.
        """
        from graphnorms.lab.trials import group_trials

        settings = self.settings
        return group_trials(self.records, list(settings.treatments), protocol=settings.protocol)

    @cached_property
    def why(self) -> Why | None:
        """The reasons for the differences, and what would test them; None without a verdict."""
        from graphnorms.lab.option_kinds import REASONS
        from graphnorms.lab.reasons import Why

        if not self.judgeable or self.settings.reasons == REASONS[0]:
            return None
        return Why(self.trials, self.verdict, self.tests, self.facts)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why norms differ: those supported by trials with one thing changed come first.

        Only of differences that the verdict tells apart; see `graphnorms.lab.reasons`.
        """
        return () if self.why is None else self.why.reasons

    @property
    def planned(self) -> int:
        """Number of trials of the complete comparison."""
        return self.settings.planned

    @property
    def judgeable(self) -> bool:
        """Whether a trial that gives a score has an outcome."""
        return any(record.config["stage"] != "select" for record in self.records)

    def table(self, width: int = 80) -> str:
        """Return the verdict in words and the table, as plain text.

        Args:
            width: Columns of the terminal.
        """
        return self._exported(width).export_text().rstrip()

    def to_latex(self) -> str:
        """Return the table of the verdict for LaTeX, with booktabs, see `formatted`."""
        return self.formatted("latex")

    def to_markdown(self) -> str:
        """Return the table of the verdict in Markdown, see `formatted`."""
        return self.formatted("markdown")

    def formatted(self, form: str) -> str:
        """Return the table of the verdict as `"latex"`, `"markdown"` or `"csv"`.

        CSV has a row per norm, in full precision, fractions as fractions.

        Raises:
            ValueError: There is no such form, or no trial that is reported has an outcome.
        """
        from graphnorms.report.table_formats import formatted

        return formatted({self.settings.dataset: self.verdict}, form)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per trial: what was tried, how it ended, and its scores.

        Raises:
            ImportError: pandas is not installed.
        """
        from graphnorms.lab.frames import records_to_frame

        return records_to_frame(self.records)

    def to_parquet(self, path: str | Path) -> Path:
        """Write `to_frame()` as a Parquet file and return where it is.

        Raises:
            ImportError: pandas or pyarrow is not installed.
            OSError: It cannot be written.
        """
        from graphnorms.lab.frames import write_parquet

        require_suffix(Path(path), ".parquet", "a Parquet table")
        write_parquet(Path(path), self.records)
        return Path(path)

    def report(
        self, path: str | Path | None = None, *, figures: bool = True, live: bool = False
    ) -> Path:
        """Write the report as one HTML page and return where it is.

        Args:
            path: Where to write it; None is `report.html` in the run's folder.
            figures: Whether its figures are written as SVG, PNG and PDF as well, into
                `report-figures` beside `report.html`.
            live: Whether the page says that the run goes on, and loads itself again.

        Raises:
            OSError: It cannot be written.
        """
        from graphnorms.report.page import write_page
        from graphnorms.report.pictures import folder_beside, write_pictures
        from graphnorms.report.style import display_name

        path = self.folder / REPORT if path is None else Path(path)
        state = ""
        if live:
            now = datetime.now().astimezone()
            state = f"{len(self.records)} of {self.planned} trials, {now:%Y-%m-%d %H:%M:%S %Z}"
        settings = self.settings.shown()
        write_page(
            path,
            self.trials,
            self.verdict,
            settings,
            self.command,
            live=state,
            why=self.why_in_words(display_name),
        )
        if figures:
            write_pictures(folder_beside(path), self.trials, self.verdict)
        return path

    def plot(self, name: str = "learning_curves") -> Figure:
        """Return one figure of the report; a notebook shows it, and its `save` writes it.

        Args:
            name: `"learning_curves"`, `"learning_curves_by_second"`, `"score_by_pair"`,
                `"rate_sensitivity"`, `"time_to_target"` or `"pairwise"`.

        Raises:
            ValueError: There is no such figure, or not of this comparison.
        """
        from graphnorms.report.figures import draw

        return draw(name, self.trials, self.verdict)

    def export(self, path: str | Path, norm: str | None = None) -> Path:
        """Write a trained model as safetensors and return where it is.

        The trial with the best validation score, see `to_export`, is trained once more: a trial is
        a function of its config, and the outcome is checked against the first one.
        `graphnorms.training.load_model` and `graphnorms predict` read the file; for your own model
        or norm they need its code as well.

        Args:
            path: The file, `….safetensors`.
            norm: The normalization or the treatment; None is the one that the verdict recommends.

        Raises:
            ValueError: No norm is named and none recommended, no trial with this norm was done, or
                the name has another suffix.
            GraphnormsError: The data have changed, or the trial ends differently now.
            OSError: The data cannot be read, or the file not written.
        """
        from graphnorms.lab.model_export import train_again
        from graphnorms.training import save_checkpoint

        require_suffix(Path(path), ".safetensors", "safetensors")
        save_checkpoint(Path(path), train_again(self, self.to_export(norm)))
        return Path(path)

    def kept(self, norm: str | None = None) -> dict[str, Any]:
        """Return what a trial of yours kept by `report.keep(model=model)`: states, by name.

        Of a norm's trials it is the one with the best validation score. Nothing in the file is
        executed.

        Args:
            norm: As for `export`.

        Raises:
            ValueError: As `to_export`, or the trial kept nothing.
            GraphnormsError: The file is damaged.
        """
        from graphnorms.lab.model_export import kept_weights

        return kept_weights(self, norm)

    def to_export(self, norm: str | None = None) -> Record:
        """Return the trial of the model that `export` writes: the best by validation score.

        Args:
            norm: As for `export`.

        Raises:
            ValueError: No norm is named and none recommended, or no trial with this norm was done.
        """
        from graphnorms.lab.model_export import exported_trial

        return exported_trial(self, norm)

    def to_dict(self) -> dict[str, Any]:
        """Return settings, verdict and where the records are, as JSON-able data."""
        from graphnorms.lab.judgement import Judgement

        return Judgement.of(self).to_dict(self.settings, self.folder)

    def why_in_words(self, names: Name = str) -> list[str]:
        """Say why norms differ, see `graphnorms.lab.reason_sentences.why`."""
        from graphnorms.lab.reason_sentences import why

        return [] if self.why is None else why(self.why, names)

    def __repr__(self) -> str:
        return self.table() if self.judgeable else f"Comparison(no verdict yet, {self.folder})"

    def _repr_html_(self) -> str:
        if not self.judgeable:
            return f"<pre>{html.escape(repr(self))}</pre>"
        return self._exported(100).export_html(
            inline_styles=True, code_format="<pre style='line-height:1.2'>{code}</pre>"
        )

    def _exported(self, width: int) -> Console:
        """A console that has printed this comparison, and keeps the text."""
        from rich.console import Console

        from graphnorms.report.pairs_table import pairs
        from graphnorms.report.table import details, explained, headline, leaderboard

        console = Console(file=io.StringIO(), record=True, width=width, force_jupyter=False)
        for part in (
            headline(self.verdict),
            leaderboard(self.verdict, width=width),
            *([pairs(self.verdict, width=width)] if self.verdict.conclusive else []),
            details(self.verdict),
            *([explained(why)] if (why := self.why_in_words()) else []),
        ):
            console.print(part)
            console.print()
        return console

    def graphs(self) -> GraphSet:
        """Return the graphs; read again unless they are in memory."""
        if self.dataset is not None:
            return self.dataset
        stored = read_config(self.folder)
        return load_again(stored, self.folder, None, stored.get("reading", {})).graphs


def open_comparison(folder: str | Path, *, margin: float | None = None) -> Comparison:
    """Read a run from its folder, finished or not, also while it is going on.

    Args:
        folder: The run's.
        margin: Judge with this margin instead of the run's; the folder keeps its own.

    Raises:
        ValueError: The margin is not a number above 0.
        GraphnormsError: The folder holds no run, or a file in it is damaged.
        OSError: A file cannot be read.
    """
    folder = Path(folder)
    config, records = open_run(folder)
    settings = settings_of(config, folder)
    if margin is not None:
        settings = replace(settings, margin=margin)
    try:
        trivial = Trivial(**config["trivial"]) if "trivial" in config else None
    except (TypeError, ValueError) as error:
        raise GraphnormsError(f"{folder / CONFIG}: {error}") from None
    schedule = Schedule(
        settings=settings,
        fingerprint=config["fingerprint"],
        versions=CodeVersions(
            graphnorms_version=config["graphnorms_version"],
            torch_version=config["torch_version"],
        ),
    )
    return Comparison(
        settings=settings,
        records=tuple(Agenda(schedule, records).records()),
        folder=folder,
        command=command_of(
            settings,
            config.get("reading", {}),
            in_memory=config.get("in_memory", False),
            model_in_memory=config.get("model_in_memory", False),
        ),
        trivial=trivial,
        tests=tests_among(records),
        facts=config.get("facts", {}),
    )
