"""The figures of a comparison as files: for papers and slides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphnorms.errors import unknown_name
from graphnorms.report.chart import SUFFIXES, Figure
from graphnorms.report.figures import FIGURES, figures_of

if TYPE_CHECKING:
    from graphnorms.lab.verdict import Verdict
    from graphnorms.training.record import Record


def draw(name: str, records: Sequence[Record], verdict: Verdict) -> Figure:
    """Return one of `FIGURES`.

    Args:
        name: Which.
        records: Outcomes of the comparison, in any order.
        verdict: What `graphnorms.lab.judge.judge` says of them.

    Raises:
        ValueError: There is no such figure, or not of this comparison.
    """
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES)
    found = figures_of(records, verdict)
    if name not in found:
        raise ValueError(
            f"this comparison has no figure {name!r}; it has {', '.join(found) or 'none'}"
        )
    return found[name]


def write_pictures(folder: Path, records: Sequence[Record], verdict: Verdict) -> list[Path]:
    """Write every figure of a comparison as SVG, PNG and PDF, and return the files.

    Equal arguments give equal files, see `Figure.save`.

    Args:
        folder: Where they go; made when it does not exist, its older pictures are replaced.
        records, verdict: As for `draw`.

    Raises:
        ImportError: vl-convert is not installed.
        OSError: A file cannot be written.
    """
    return [
        file
        for figure in figures_of(records, verdict).values()
        for file in write_figure(folder, figure)
    ]


def write_figure(folder: Path, figure: Figure) -> list[Path]:
    """Write one figure as SVG, PNG and PDF into a folder, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [figure.save(folder / f"{figure.name}{suffix}") for suffix in SUFFIXES]


def folder_beside(page: Path) -> Path:
    """Return where the figures of a page go: `report-figures` beside `report.html`."""
    return page.with_name(f"{page.stem}-figures")
