"""A table of scores that others have measured, judged as a comparison of our own is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.files import require_suffix
from graphnorms.lab.across_datasets import AcrossDatasets, across_verdicts
from graphnorms.lab.assumed_design import Assumed, TableTrials, assume, trials_of
from graphnorms.lab.design_sentences import design_sentences, unpaired_sentences
from graphnorms.lab.judge import Terms
from graphnorms.lab.judge import judge as judge_trials
from graphnorms.lab.option_kinds import BASELINE
from graphnorms.lab.phrases import dataset_title, listing
from graphnorms.lab.score_columns import ROLES
from graphnorms.lab.score_entries import Reading, read_entries
from graphnorms.lab.score_tables import read_table

if TYPE_CHECKING:
    from rich.console import Console

    from graphnorms.lab.verdict import Verdict
    from graphnorms.report.chart import Figure


@dataclass(frozen=True, kw_only=True)
class JudgedSet:
    """The scores on one data set, and what they allow to conclude.

    Args:
        name: Of the data set; empty where the table names none.
        trials: The scores, as the trials of a comparison.
        verdict: What `graphnorms.lab.judge.judge` says of them.
    """

    name: str
    trials: TableTrials
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class JudgedTable:
    """What a table of scores says; printing it, or showing it in a notebook, gives the verdict.

    Args:
        name: What the table is called.
        source: What it was read as, in words.
        sets: One per data set.
        across: The ranks over several data sets; None for one, or if they cannot be ranked.
        assumed: The design that the tests assume.
        reading: The scores, and what was found out of the columns.
        notes: How the table was read, and what was left out, one sentence each.
        terms: What else the judgement takes: margin, baseline.
        command: What repeats the judgement.
    """

    name: str
    source: str
    sets: tuple[JudgedSet, ...]
    across: AcrossDatasets | None
    assumed: Assumed
    reading: Reading
    notes: tuple[str, ...]
    terms: Terms
    command: str

    @cached_property
    def design(self) -> tuple[str, ...]:
        """The design in sentences: which, why, and what follows if it is another."""
        return design_sentences(
            self.assumed,
            self.reading,
            _verdicts(self.sets),
            lambda other: _verdicts(_judged(self.reading, other, self.terms)),
        )

    @property
    def verdict(self) -> Verdict:
        """The verdict on the data set, if there is one only.

        Raises:
            ValueError: There are several; `sets` has the verdict on each.
        """
        if len(self.sets) > 1:
            raise ValueError(
                f"the table has {len(self.sets)} data sets; sets has a verdict on each"
            )
        return self.sets[0].verdict

    @property
    def ranks(self) -> str:
        """What several data sets say together, in words; empty for one."""
        if len(self.sets) < 2:
            return ""
        if self.across is None:
            return "Ranks: no two methods have scores on two data sets, so none are ranked."
        apart = [method for method in self.reading.methods if method not in self.across.ranks]
        aside = [one.name for one in self.sets if one.name not in self.across.datasets]
        methods = (
            f" Not ranked, as not compared on each of them: {listing(apart)}." if apart else ""
        )
        datasets = f" Left out, with fewer than two methods: {listing(aside)}." if aside else ""
        return f"{self.across.sentence}{methods}{datasets}"

    @property
    def ranked_only(self) -> bool:
        """Whether nothing but ranks over data sets is judged: each has one score per method."""
        return self.assumed.name == "datasets"

    def table(self, width: int = 80) -> str:
        """Return what was found in words and tables, as plain text.

        Args:
            width: Columns of the terminal.
        """
        return self._exported(width).export_text().rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able data."""
        from graphnorms.lab.sentences import sentences

        roles = self.reading.roles
        return {
            "source": self.source,
            "columns": dict(roles.columns),
            "each_column_is": roles.spread,
            "wide": dict(roles.wide),
            "metrics": {name: one.metric.title for name, one in self.reading.metrics.items()},
            "design": asdict(self.assumed) | {"sentences": list(self.design)},
            "notes": list(self.notes),
            "datasets": [
                {
                    "name": one.name,
                    "verdict": one.verdict.to_dict(),
                    "sentences": sentences(one.verdict).to_dict(),
                }
                for one in self.sets
            ],
            "across": None if self.across is None else self.across.to_dict(),
            "command": self.command,
        }

    def to_latex(self) -> str:
        """Return the table of scores for LaTeX, with booktabs; several data sets one by one."""
        return self._formatted("latex")

    def to_markdown(self) -> str:
        """Return the table of scores in Markdown."""
        return self._formatted("markdown")

    def to_csv(self) -> str:
        """Return the table of scores as CSV, in full precision."""
        return self._formatted("csv")

    def _formatted(self, form: str) -> str:
        from graphnorms.report.table_formats import formatted

        return formatted({one.name: one.verdict for one in self.sets}, form)

    def plot(self, name: str = "score_by_pair", dataset: str | None = None) -> Figure:
        """Return one figure; a notebook shows it, and its `save` writes it.

        Args:
            name: `"score_by_pair"`, `"pairwise"`, or `"critical_difference"` over data sets.
            dataset: Of which data set, if there are several.

        Raises:
            ValueError: There is no such figure, or data set.
        """
        from graphnorms.report.judged_page import figure_of

        return figure_of(self, name, dataset)

    def report(self, path: str | Path) -> Path:
        """Write one HTML page and return where it is.

        Raises:
            OSError: It cannot be written.
        """
        from graphnorms.report.judged_page import write_judged

        require_suffix(Path(path), ".html", "a page")
        write_judged(Path(path), self)
        return Path(path)

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return self._exported(100).export_html(
            inline_styles=True, code_format="<pre style='line-height:1.2'>{code}</pre>"
        )

    def _exported(self, width: int) -> Console:
        """A console that has printed everything, and keeps the text."""
        from rich.console import Console

        from graphnorms.report.judged_lines import judged_lines

        console = Console(file=io.StringIO(), record=True, width=width, force_jupyter=False)
        for part in judged_lines(self, width=width):
            console.print(part)
        return console


def judge(
    table: Any,
    *,
    method: str | None = None,
    score: str | None = None,
    fold: str | None = None,
    seed: str | None = None,
    repeat: str | None = None,
    dataset: str | None = None,
    design: str | None = None,
    test_share: float | None = None,
    higher_is_better: bool | None = None,
    margin: float | None = None,
) -> JudgedTable:
    """Judge scores that are there already: which methods differ, which are equal, what is open.

    The tests are those of `graphnorms.compare`: paired by fold, split or seed, corrected where
    training sets overlap, adjusted for all pairs. Nothing is trained. What the columns are and
    how the scores were made is guessed where it is not said, and the outcome says both.

    Args:
        table: A CSV, TSV, Parquet or JSON file, a folder of GraphGym's results, a report of
            GraphNetz (`to_json`), an export of Weights & Biases, a frame of pandas or polars
            (`Comparison.to_frame()` is one), a mapping of columns or a list of rows. Long, a row
            per score, or wide, a column per method, fold, seed or data set.
        method, score, fold, seed, repeat, dataset: Names of columns. `method` may be several with
            commas between, whose combinations are compared. `seed` within `fold` is a further
            run on the same fold, `repeat` a further cross-validation of other folds.
        design: `"folds"` of a cross-validation, `"resampled"` splits drawn anew, `"seeds"` on one
            split, or independent `"datasets"` with a score each.
        test_share: Share of the data that a resampled split tests; 0: each has data of its own.
        higher_is_better: Which way is better; None: as the name of the metric says.
        margin: Differences below it are practically none, as for `graphnorms.compare`.

    Raises:
        ValueError: A column is missing or cannot be guessed, scores are no numbers, there is one
            method only, or an option does not fit.
        GraphnormsError: A file is damaged.
        ImportError: A Parquet file needs pyarrow.
        OSError: A file cannot be read.
    """
    named = {
        role: name
        for role, name in zip(ROLES, (method, score, fold, seed, repeat, dataset), strict=True)
        if name is not None
    }
    found = read_table(table)
    reading = read_entries(found, named, higher_is_better)
    assumed = assume(found, reading, design, test_share)
    if assumed.name == "datasets" and len(reading.datasets) < 2:
        raise ValueError(
            f"design 'datasets' ranks methods over data sets, and the table has "
            f"{len(reading.datasets)}; --dataset names the column of their names"
        )
    fractions = any(one.metric.fraction for one in reading.metrics.values())
    if margin is not None and margin >= 1 and fractions:
        raise ValueError(
            f"margin is {margin}, and scores are fractions, in percent too: 0.01 is one point"
        )
    terms = Terms(
        baseline=BASELINE if BASELINE in reading.methods else reading.methods[0],
        margin=margin,
        noun=found.noun,
    )
    sets = _judged(reading, assumed, terms)
    options = {
        **named,
        "design": design,
        "test_share": test_share,
        "higher_is_better": higher_is_better,
        "margin": margin,
    }
    return JudgedTable(
        name=dataset_title(str(table)) if isinstance(table, str | Path) else "a table",
        source=found.source,
        sets=sets,
        across=_across(sets),
        assumed=assumed,
        reading=reading,
        notes=(*reading.notes, *unpaired_sentences(reading, assumed, _verdicts(sets))),
        terms=terms,
        command=_call(table, options),
    )


def _judged(reading: Reading, assumed: Assumed, terms: Terms) -> tuple[JudgedSet, ...]:
    """Judge every data set by itself."""
    found = []
    for name in reading.datasets:
        entries = [entry for entry in reading.entries if entry.dataset == name]
        trials = trials_of(entries, reading.methods, reading.metrics[name], assumed)
        # Scores that a method lacks are unpaired, and no trials that are still to be run.
        fewest = min(len(of_method.records()) for of_method in trials.values())
        verdict = judge_trials(trials, replace(terms, planned=fewest))
        found.append(JudgedSet(name=name, trials=trials, verdict=verdict))
    return tuple(found)


def _verdicts(sets: Sequence[JudgedSet]) -> dict[str, Verdict]:
    return {one.name: one.verdict for one in sets}


def _across(sets: Sequence[JudgedSet]) -> AcrossDatasets | None:
    """Rank the methods over data sets; None where fewer than two share two methods."""
    compared = [one for one in sets if len(one.verdict.contenders) > 1]
    try:
        return across_verdicts(_verdicts(compared)) if len(compared) > 1 else None
    except ValueError:
        return None


def _call(table: Any, options: Mapping[str, Any]) -> str:
    """Return the command, or the call, that judges a table."""
    given = {name: value for name, value in options.items() if value is not None}
    if not isinstance(table, str | Path):
        words = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"graphnorms.judge(table{', ' if words else ''}{words})"
    import shlex

    parts = ["graphnorms", "judge", str(table)]
    for name, value in given.items():
        if name == "higher_is_better":
            parts.append("--higher-is-better" if value else "--lower-is-better")
        else:
            parts += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(parts)
