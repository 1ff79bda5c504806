"""Several comparisons on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphnorms.comparison.outcome import Comparison

if TYPE_CHECKING:
    from graphnorms.lab.datasets import AcrossDatasets


def report_several(
    comparisons: Sequence[Comparison], path: str | Path, *, figures: bool = True
) -> AcrossDatasets:
    """Write one page over several comparisons and return what they say together.

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
    from graphnorms.report.several import Part, names_of, write_several

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
            records=comparison.records,
            verdict=comparison.verdict,
            command=comparison.command,
        )
        for name, comparison in zip(names, comparisons, strict=True)
    ]
    return write_several(Path(path), parts, figures=figures)
