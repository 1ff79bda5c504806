"""The verdict as a table for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from rich import box
from rich.console import Console, Group
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from graphnorms.lab import phrases
from graphnorms.lab.sentences import sentences
from graphnorms.lab.trivial import trivial_name
from graphnorms.lab.verdict_phrases import goal, near, rates_noun
from graphnorms.report import labels
from graphnorms.report.cells import (
    PLAIN_BOX,
    ascii_only,
    effect_text,
    estimate_text,
    justified,
    mean_text,
    needed_text,
    p_text,
)
from graphnorms.report.labels import STAR
from graphnorms.report.style import style_of

if TYPE_CHECKING:
    from graphnorms.lab.statistics import Estimate
    from graphnorms.lab.verdict import NormSummary, Verdict

CAPTION_WIDTH = 78

_DROPPED_FIRST = ("needed", "effect", "last", "p", "seconds", "train", "steps")
"""Columns in the order in which they go when there is no room for them."""


class Column(NamedTuple):
    """A column of the leaderboard.

    Args:
        heading: One line, or two.
        cell: What stands in it, as text.
        numbers: The same as numbers by name, in the unit of the score, for CSV.
    """

    heading: str
    cell: Callable[[NormSummary], str]
    numbers: Callable[[NormSummary], dict[str, float | None]]


MOST_SAID: Final = 6
"""Reasons for which a terminal has room."""


def leaderboard(verdict: Verdict, *, width: int = 80, plain: bool = False) -> Group:
    """Build the leaderboard and the lines that explain it.

    Best first; norms by catalogue name and in their colours. All columns fit into 80; where
    there are fewer, columns go, and digits never. A console without colours (a pipe, NO_COLOR)
    leaves them out by itself.

    Args:
        verdict: What to show.
        width: Columns at hand.
        plain: ASCII only.
    """
    columns = columns_of(verdict)
    for aside in ("effect", "needed"):
        # Where times take the room, the table of pairs has these.
        if verdict.trained or {"–"} == set(map(columns[aside].cell, verdict.rows)):
            del columns[aside]
    if verdict.trained and not verdict.optimistic and not _has_grid(verdict):
        del columns["last"]
    dropped = iter(_DROPPED_FIRST)
    table = _table(verdict, columns, plain)
    ruler = Console(width=1000)
    while Measurement.get(ruler, ruler.options, table).maximum > width:
        name = next(dropped, None)
        if name is None:
            break
        columns.pop(name, None)
        table = _table(verdict, columns, plain)
    caption = "\n".join(caption_of(verdict, columns))
    return Group(table, Text(ascii_only(caption) if plain else caption, style="dim"))


def headline(verdict: Verdict) -> Group:
    """Build what stands above the table: the verdict in words."""
    return paragraphs(sentences(verdict).headline)


def details(verdict: Verdict) -> Group:
    """Build what stands below the table: what else is said of the comparison."""
    return paragraphs(sentences(verdict).details)


def explained(why: Sequence[str], most: int = MOST_SAID) -> Group:
    """Build what is said of why norms differ.

    Args:
        why: See `graphnorms.lab.reason_sentences.why`.
        most: Reasons that there is room for.
    """
    summary, *reasons = why
    left = len(reasons) - most
    more = [f"{phrases.several(left, 'more reason')}, see the report."] if left > 0 else []
    return paragraphs([f"Why: {summary}", *(f"– {each}" for each in reasons[:most] + more)])


def paragraphs(texts: Iterable[str]) -> Group:
    """Build a paragraph for each thing that is said, its subject bold."""
    return Group(
        *(Text.assemble((subject, "bold"), rest) for subject, rest in map(labels.subject, texts))
    )


def columns_of(verdict: Verdict) -> dict[str, Column]:
    """Return every column, in the order in which they stand; those of training if it is known."""
    scale = verdict.scale
    unit = f"\n{scale.score_unit}" if scale.metric.fraction else ""
    difference = f"\n{scale.difference_unit}" if scale.metric.fraction else ""
    what = "valid.*" if verdict.optimistic else "score" if verdict.noun == "method" else "test"
    columns = {
        "score": Column(
            f"{what}{unit}",
            lambda row: estimate_text(row.score, scale),
            lambda row: _ends_of("score", row.score),
        ),
        **_beside(verdict),
        "difference": Column(
            f"to best{difference}",
            lambda row: _difference(row, verdict),
            lambda row: _ends_of(
                "difference", None if row.difference is None else row.difference.estimate
            ),
        ),
        "p": Column("p", lambda row: p_text(_adjusted(row)), lambda row: {"p": _adjusted(row)}),
        "effect": Column(
            "effect\n(g)",
            lambda row: effect_text(row.difference),
            lambda row: _ends_of(
                "effect", None if row.difference is None else row.difference.effect
            ),
        ),
        "needed": Column(
            f"{verdict.design.count(2).split()[1]}\nneeded",
            lambda row: needed_text(row.difference),
            lambda row: {
                "needed": None if row.difference is None else row.difference.needed,
                "needed_to_equal": (
                    None if row.difference is None else row.difference.needed_to_equal
                ),
            },
        ),
    }
    if not verdict.trained:
        return columns
    return columns | {
        "train": Column(
            f"train{unit}",
            lambda row: mean_text(row.train, scale),
            lambda row: {"train_score": None if row.train is None else row.train.mean},
        ),
        "steps": Column(
            "steps",
            lambda row: _steps(row, verdict),
            lambda row: {"steps_to_target": row.steps_to_target},
        ),
        "seconds": Column(
            "seconds",
            lambda row: _seconds(row.seconds_to_target),
            lambda row: {"seconds_to_target": row.seconds_to_target},
        ),
        "last": (
            Column(
                "last\nepoch",
                lambda row: mean_text(row.last, scale),
                lambda row: {"last_score": None if row.last is None else row.last.mean},
            )
            if verdict.optimistic
            else Column(
                "good\nrates",
                _near,
                lambda row: {
                    "good_rates": None if row.sensitivity is None else row.sensitivity.near
                },
            )
        ),
    }


def _beside(verdict: Verdict) -> dict[str, Column]:
    """Return the column of the metric that is shown beside the judged one, if there is one."""
    scale = labels.beside(verdict)
    if scale is None:
        return {}
    name = scale.metric.name

    def known(row: NormSummary) -> Estimate | None:
        return dict(row.others).get(name)

    return {
        "beside": Column(
            scale.metric.title.replace(" ", "\n"),
            lambda row: mean_text(known(row), scale),
            lambda row: _ends_of(name, known(row)),
        )
    }


def _table(verdict: Verdict, columns: Mapping[str, Column], plain: bool) -> Table:
    table = Table(
        box=PLAIN_BOX if plain else box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        # "+-" is longer than "±"; the divider of the box is one column itself.
        padding=0 if plain else (0, 0, 0, 1),
    )
    table.add_column(verdict.noun, overflow="fold", min_width=8)
    spelt = ascii_only if plain else str
    chance = "" if verdict.trivial is None else verdict.scale.number(verdict.trivial)
    body = []
    for name, column in columns.items():
        cells = [*map(column.cell, verdict.rows), chance if name == "score" else ""]
        heading, *cells = justified(column.heading, [spelt(cell) for cell in cells], spelt("±"))
        table.add_column(heading, no_wrap=True)
        body.append(cells)
    *lines, last = zip(*body, strict=True)
    for row, line in zip(verdict.rows, lines, strict=True):
        title = Text(spelt(row.norm), style="" if plain else f"bold {style_of(row.norm).color}")
        if row.done < row.planned:
            title.append(f" {row.done}/{row.planned}", style="not bold dim")
        if row.norm == verdict.recommended:
            title.append(spelt(f" {STAR}"))
        table.add_row(title, *map(Text, line))
    if chance:
        table.add_row(*(Text(cell, style="dim") for cell in ("chance", *last)))
    return table


def caption_of(verdict: Verdict, columns: Container[str] | None = None) -> list[str]:
    """Return the lines that explain the leaderboard, or those of its columns that are shown."""
    columns = columns_of(verdict) if columns is None else columns
    scale, metric, target = verdict.scale, verdict.scale.metric, verdict.target
    kind = verdict.design.count(2).split()[1]
    kind += "" if verdict.design.by_fold else " on this one split"
    what = f"{metric.title}{f' in {scale.unit}' if scale.unit else ''}"
    way = "" if metric.higher_is_better else ", lower is better"
    part = "score" if verdict.noun == "method" else "test"
    about = what if what == part else f"{part}: {what}"
    lines = [f"{about}{way}, mean of {kind}", "± the longer side of the 95% interval"]
    if verdict.optimistic:
        lines = [f"*OPTIMISTIC {what}{way}; mean of folds", "± half the 95% interval"]
    if len(" ".join(lines)) <= CAPTION_WIDTH:
        lines = [" ".join(lines)]
    other = labels.beside(verdict)
    if other is not None and "beside" in columns:
        lines.append(f"{other.metric.title}: mean in {other.unit}, of the same trials, not judged")
    marks = [f"{STAR} recommended"] if verdict.recommended is not None else []
    marks += [f"chance: {trivial_name(metric)}"] if verdict.trivial is not None else []
    lines += ["; ".join(marks)] if marks else []
    if target is not None and "steps" in columns:
        times = "steps, seconds" if "seconds" in columns else "steps"
        missed = any(row.trials and row.steps_to_target is None for row in verdict.rows)
        note = "; 2 miss: 2 trials do not reach it" if missed else ""
        lines.append(f"{times}: to reach {goal(verdict)} (median){note}")
    if "p" in columns:
        lines.append(f"p: test against the best, paired, adjusted for all pairs of {verdict.noun}s")
    if "effect" in columns:
        lines.append(f"effect: difference in standard deviations over {kind.split()[0]}, Hedges' g")
    if "needed" in columns:
        lines.append("needed: to tell from the best | to show equal; –: no number would")
    if "last" in columns and not verdict.optimistic and _has_grid(verdict):
        lines.append(
            f"good rates: {rates_noun(verdict)} tried that come within {near(verdict)} of the best"
        )
    return lines


def _difference(row: NormSummary, verdict: Verdict) -> str:
    if row.difference is None:
        return "best" if row.norm == verdict.best else "–"
    return estimate_text(row.difference.estimate, verdict.scale, signed=True)


def _adjusted(row: NormSummary) -> float | None:
    return row.difference.adjusted_p if row.difference is not None else None


def _ends_of(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """Return an estimate and its interval as numbers by name."""
    values = (None,) * 3 if estimate is None else (estimate.mean, estimate.low, estimate.high)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


def _steps(row: NormSummary, verdict: Verdict) -> str:
    if row.steps_to_target is not None:
        return f"{row.steps_to_target:.0f}"
    timed = verdict.target is not None and row.norm in verdict.speed_order
    return f"{row.trials - row.reached} miss" if row.trials and timed else "–"


def _seconds(value: float | None) -> str:
    return "–" if value is None else phrases.seconds(value)


def _near(row: NormSummary) -> str:
    found = row.sensitivity
    return "–" if found is None or not found.judged else f"{found.near}/{len(found.rates)}"


def _has_grid(verdict: Verdict) -> bool:
    return any(row.sensitivity is not None and row.sensitivity.judged for row in verdict.rows)
