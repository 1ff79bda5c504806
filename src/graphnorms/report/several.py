"""The page over several comparisons: what they say together, and each in short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphnorms.files import replacing
from graphnorms.lab import phrases
from graphnorms.lab.across_datasets import AcrossDatasets, across_verdicts
from graphnorms.lab.rank_sentences import ranks_sentence
from graphnorms.lab.sentences import sentences
from graphnorms.lab.verdict_phrases import label
from graphnorms.report.curve_figures import learning_curves
from graphnorms.report.pair_figures import critical_difference
from graphnorms.report.pictures import folder_beside, write_figure
from graphnorms.report.style import CHANCE, display_name
from graphnorms.report.templating import charts, chunks, raw, template

if TYPE_CHECKING:
    from graphnorms.lab.comparison import Comparison
    from graphnorms.lab.trials import Trials
    from graphnorms.lab.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison of several.

    Args:
        name: What to call it beside the others.
        settings: Of its settings, `dataset`, `model` and `protocol` are shown.
        trials: Its trials; None for a table of scores.
        verdict: What was found.
        command: What repeats it.
        about: Its subtitle, if it is not of a comparison.
    """

    name: str
    settings: Mapping[str, Any]
    trials: Trials | None
    verdict: Verdict
    command: str
    about: str = ""


def names_of(datasets: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Name comparisons by their data, or by their folders where they share the data."""
    names = list(map(phrases.dataset_title, datasets))
    counts = Counter(names)
    return [
        name if counts[name] == 1 else str(folder)
        for name, folder in zip(names, folders, strict=True)
    ]


def report_several(
    comparisons: Sequence[Comparison], path: str | Path, *, figures: bool = True
) -> AcrossDatasets:
    """Write one page over several comparisons and return the ranks over all of them.

    Args:
        comparisons: Of several data sets or models, two or more.
        path: The page.
        figures: Whether the critical-difference figure is written as SVG, PNG and PDF as well,
            into `<page>-figures` beside the page.

    Raises:
        ValueError: One has no verdict yet, they are fewer than two, or share too few norms.
        ImportError: vl-convert is not installed.
        OSError: The page cannot be written.
    """
    for comparison in comparisons:
        if not comparison.judgeable:
            raise ValueError(f"{comparison.folder} has no verdict yet; finish it, or leave it out")
    names = names_of(
        [comparison.settings.dataset for comparison in comparisons],
        [comparison.folder for comparison in comparisons],
    )
    parts = [
        Part(
            name=name,
            settings=comparison.settings.to_dict(),
            trials=comparison.trials,
            verdict=comparison.verdict,
            command=comparison.command,
        )
        for name, comparison in zip(names, comparisons, strict=True)
    ]
    return write_several(Path(path), parts, figures=figures)


def write_several(path: Path, parts: Sequence[Part], *, figures: bool = False) -> AcrossDatasets:
    """Write the page over several comparisons, one file that loads nothing.

    With the figure of critical differences and each comparison's curves. Comparisons that are not
    finished are shown, but do not count in the ranks; norms that not every finished one has a
    score for are left out of them.

    Args:
        path: Where the page goes; an older one is replaced.
        parts: The comparisons, two or more.
        figures: Whether the figure of critical differences is written beside the page as well.

    Raises:
        ValueError: Fewer than two comparisons are finished, or they share fewer than two norms.
        ImportError: vl-convert is not installed.
        OSError: The file cannot be written.
    """
    across = across_verdicts({part.name: part.verdict for part in parts})
    figure = critical_difference(across)
    page = render_several(parts, across)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    if figures:
        write_figure(folder_beside(path), figure)
    return across


def render_several(
    parts: Sequence[Part],
    across: AcrossDatasets,
    *,
    kicker: str = "graphnorms report",
    title: str = "",
    notes: Sequence[str] = (),
    made_by: str = "",
) -> str:
    """Return the page over several comparisons as HTML.

    Args:
        parts: The comparisons.
        across: Their ranks.
        kicker: What made the page.
        title: The heading; by default how many comparisons there are.
        notes: Paragraphs below the ranks: how a table was read.
        made_by: What repeats the page, if not its parts.
    """
    figure = critical_difference(across)
    panels = {panel.name: panel for panel in figure.panels}
    for place, part in enumerate(parts):
        if part.trials is not None and part.verdict.best is not None:
            curves = learning_curves(part.trials, part.verdict).panels
            panels |= {f"{_prefix(place)}{one.name}": one for one in curves}
    norms = dict.fromkeys(row.norm for part in parts for row in part.verdict.rows)
    return template("several.html").render(
        kicker=kicker,
        title=title or f"Normalizations over {len(parts)} comparisons",
        notes=notes,
        made_by=chunks(made_by) if made_by else [],
        noun=across.noun,
        across=across,
        sentence=ranks_sentence(across, display_name),
        parts=[
            {
                "name": part.name,
                "about": _about(part),
                "label": label(part.verdict),
                "optimistic": part.verdict.optimistic,
                "sentences": sentences(part.verdict, display_name),
                "scores": _scores(part.verdict),
                "verdict": part.verdict,
                "command": chunks(part.command) if part.command else [],
                "prefix": _prefix(place),
                "curves": f"{_prefix(place)}train_score",
            }
            for place, part in enumerate(parts)
        ],
        norms=list(across.ranks),
        chance=_levels(parts),
        line=CHANCE,
        switched=[*across.ranks, *(norm for norm in norms if norm not in across.ranks)],
        left_out=[norm for norm in norms if norm not in across.ranks],
        panels=panels,
        charts=charts(panels),
        css=raw("page.css"),
    )


def _prefix(place: int) -> str:
    """Return what tells the charts of one comparison from those of the others."""
    return f"run{place + 1}_"


def _scores(verdict: Verdict) -> dict[str, str]:
    return {
        row.norm: verdict.scale.number(row.score.mean)
        for row in verdict.rows
        if row.score is not None
    }


def _levels(parts: Sequence[Part]) -> list[str]:
    """Return what the trivial predictor scores on each; empty if none of them says."""
    known = [(part.verdict.trivial, part.verdict.scale) for part in parts]
    levels = ["–" if trivial is None else scale.number(trivial) for trivial, scale in known]
    return levels if any(trivial is not None for trivial, _ in known) else []


def _about(part: Part) -> str:
    if part.about:
        return part.about
    settings, verdict = part.settings, part.verdict
    pairs = max((row.pairs for row in verdict.rows), default=0)
    return " · ".join(
        (
            phrases.dataset_title(str(settings["dataset"])),
            phrases.model_title(str(settings["model"])),
            f"protocol {settings['protocol']}",
            verdict.design.count(pairs),
        )
    )
