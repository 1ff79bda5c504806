"""The figures of a comparison as files: for papers and slides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from graphnorms.report.chart import SUFFIXES, Figure

if TYPE_CHECKING:
    from graphnorms.lab.trials import Trials
    from graphnorms.lab.verdict import Verdict


def write_pictures(folder: Path, trials: Trials, verdict: Verdict) -> list[Path]:
    """Write every figure of a comparison as SVG, PNG and PDF, and return the files.

    Equal arguments give equal files, see `Figure.save`.

    Args:
        folder: Where they go; made when it does not exist, its older pictures are replaced.
        trials, verdict: As for `graphnorms.report.figures.figures_of`.

    Raises:
        ImportError: vl-convert is not installed.
        OSError: A file cannot be written.
    """
    from graphnorms.report.figures import figures_of  # `folder_beside` needs none of it

    return [
        file
        for figure in figures_of(trials, verdict).values()
        for file in write_figure(folder, figure)
    ]


def write_figure(folder: Path, figure: Figure) -> list[Path]:
    """Write one figure as SVG, PNG and PDF into a folder, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [figure.save(folder / f"{figure.name}{suffix}") for suffix in SUFFIXES]


def folder_beside(page: Path) -> Path:
    """Return where the figures of a page go: `report-figures` beside `report.html`."""
    return page.with_name(f"{page.stem}-figures")
