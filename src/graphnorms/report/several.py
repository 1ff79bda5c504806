"""The page over several comparisons: what they say together, and each in short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from graphnorms.files import replacing
from graphnorms.lab import phrases
from graphnorms.lab.across_datasets import AcrossDatasets, across_verdicts, ranks_sentence
from graphnorms.lab.sentences import label, sentences
from graphnorms.report.critical_difference import critical_difference
from graphnorms.report.drawing import as_bytes, styled, write
from graphnorms.report.pictures import folder_beside
from graphnorms.report.style import display_name
from graphnorms.report.swatch import CHANCE
from graphnorms.report.templating import chunks, raw, template

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Part:
    """One comparison of several.

    Args:
        name: What to call it beside the others.
        settings: Of its settings, `dataset`, `model` and `protocol` are shown.
        verdict: What was found.
        command: What repeats it.
    """

    name: str
    settings: Mapping[str, Any]
    verdict: Verdict
    command: str


def names_of(datasets: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Name comparisons by their data, or by their folders where they share the data."""
    names = list(map(phrases.dataset_title, datasets))
    counts = Counter(names)
    return [
        name if counts[name] == 1 else str(folder)
        for name, folder in zip(names, folders, strict=True)
    ]


def write_several(path: Path, parts: Sequence[Part], *, figures: bool = False) -> AcrossDatasets:
    """Write the page over several comparisons, one file that loads nothing.

    With the picture of critical differences, as SVG inside the page. Comparisons that are not
    finished are shown, but do not count in the ranks; norms that not every finished one has a
    score for are left out of them.

    Args:
        path: Where the page goes; an older one is replaced.
        parts: The comparisons, two or more.
        figures: Whether the picture is written beside the page as well, as SVG and PNG.

    Raises:
        ValueError: Fewer than two comparisons are finished, or they share fewer than two norms.
        ImportError: matplotlib is not installed.
        OSError: The file cannot be written.
    """
    across = across_verdicts({part.name: part.verdict for part in parts})
    with styled():
        figure = critical_difference(across)
    picture = as_bytes(figure, "svg").decode()
    page = template("several.html").render(
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
                "command": chunks(part.command),
            }
            for part in parts
        ],
        norms=list(across.ranks),
        chance=_levels(parts),
        line=CHANCE,
        left_out=[
            norm
            for norm in dict.fromkeys(row.norm for part in parts for row in part.verdict.rows)
            if norm not in across.ranks
        ],
        # From its first tag on: a page has no place for the declaration of an XML file.
        picture=Markup(picture[picture.index("<svg") :]),
        css=raw("page.css"),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    if figures:
        folder = folder_beside(path)
        folder.mkdir(exist_ok=True)
        write(figure, folder / "critical_difference")
    return across


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
